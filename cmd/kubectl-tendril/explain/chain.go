package explain

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/webhook/inject"
	"github.com/tendril-cni/tendril/webhook/validate"
)

// statusAnnotation is what the daemon writes (NPWG v1.3).
const statusAnnotation = "k8s.v1.cni.cncf.io/network-status"

// Pod explains one pod.
func Pod(f Facts) Report {
	c := &chain{facts: f, report: Report{Pod: f.Pod.Namespace + "/" + f.Pod.Name, Node: f.Pod.Spec.NodeName}}
	if n := f.Daemon.Networks; n != nil && n.Isolation {
		c.facts.Known.Isolation = &validate.Isolation{Global: n.Global}
	}
	c.status()
	c.trouble = troubleOf(f.Events)
	if t := f.last(); t != nil && t.Error != "" {
		c.trouble = name("", t.Error) // the node's own word
	}
	if c.request() {
		c.definitions()
		c.injection()
		c.scheduling()
		c.daemon()
		c.devices()
		c.addresses()
		c.attachments()
	}
	c.events()
	ended := c.ended()
	for i := range c.report.Chain {
		if l := &c.report.Chain[i]; ended != "" && l.State == Wait {
			l.State = None
		}
	}
	c.report.judge(len(c.wishes), ended)
	return c.report
}

// chain makes the links, in order.
type chain struct {
	facts  Facts
	report Report
	wishes []wish
	// state is the pod's network-status.
	state []cni.NetworkStatus
	// trouble is what the pod's last call failed with, or else the newest thing that
	// an event complains of; it concerns the pod only while it has not got everything.
	trouble trouble
}

// link begins a link.
func (c *chain) link(name string) *Link {
	c.report.Chain = append(c.report.Chain, Link{Name: name, State: OK})
	return &c.report.Chain[len(c.report.Chain)-1]
}

func (c *chain) status() {
	// One that cannot be read is as good as none: the attachments then are not
	// confirmed.
	_ = json.Unmarshal([]byte(c.facts.Pod.Annotations[statusAnnotation]), &c.state)
}

// whole says that the pod has every interface that it asks for, by its own status.
func (c *chain) whole() bool {
	return !slices.ContainsFunc(c.wishes, func(w wish) bool { return statusOf(c.state, w.ifName) == nil })
}

// ended is how the pod ended, "" while it has not.
func (c *chain) ended() string {
	if p := c.facts.Pod.Status.Phase; p == corev1.PodSucceeded || p == corev1.PodFailed {
		return string(p)
	}
	return ""
}

// undefined says that what a network is like is not known.
func (c *chain) undefined() bool {
	return slices.ContainsFunc(c.wishes, func(w wish) bool { return w.definition == nil })
}

// request reads what the pod asks for. The rest of the chain follows only when
// there is something.
func (c *chain) request() bool {
	l := c.link("request")
	pod := c.facts.Pod
	object := fmt.Sprintf("Pod %q", c.report.Pod)
	selections, found := validate.Select(object, pod.Namespace, pod.Annotations, c.facts.Known)
	for _, f := range found {
		l.fail("correct the annotation and make the pod again: the daemon reads it when the pod starts", "%s", f)
	}
	if len(found) > 0 {
		return false
	}
	before := c.before(selections)
	for _, s := range selections {
		w := wish{Selection: s, ref: s.Element.Ref(), ifName: s.Element.Interface}
		switch {
		case w.ifName == "" && s.Index < 0:
			w.ifName = "eth0"
		case w.ifName == "":
			w.ifName = autoName(before, s)
		}
		c.wishes = append(c.wishes, w)
		l.say("%s as %s%s", w.ref, w.ifName, asked(s.Element))
	}
	if len(c.wishes) == 0 {
		l.none("no annotation %s: the pod gets the default network, and what its node gives to every pod", validate.NetworksAnnotation)
		return false
	}
	if pod.Spec.HostNetwork {
		l.fail("take hostNetwork or the networks out of the pod", "spec.hostNetwork is true: such a pod gets no networks")
	}
	return true
}

// autoName is the interface of a network that nobody named, behind others that the
// pod did not ask for.
func autoName(before int, s validate.Selection) string {
	return fmt.Sprintf("net%d", before+s.Index+1)
}

// before is how many networks the pod has before those that it asks for: as many as
// its node gives. A pod that runs has those that the node gave when it started,
// which may be another number; its status tells.
func (c *chain) before(selections []validate.Selection) int {
	fits := func(before int) bool {
		return !slices.ContainsFunc(selections, func(s validate.Selection) bool {
			has := statusOf(c.state, autoName(before, s))
			return s.Index >= 0 && s.Element.Interface == "" && (has == nil || has.Name != s.Element.Ref())
		})
	}
	then := 0
	for _, s := range c.state {
		if !s.Default {
			then++
		}
	}
	for _, s := range selections {
		if s.Index >= 0 {
			then--
		}
	}
	now := c.facts.given()
	if then >= 0 && !fits(now) && fits(then) {
		return then
	}
	return now
}

// asked is what a selection asks for beside the network.
func asked(e netconf.Element) string {
	var out []string
	if len(e.IPs) > 0 {
		out = append(out, "ips "+strings.Join(e.IPs, ","))
	}
	if e.MAC != "" {
		out = append(out, "mac "+e.MAC)
	}
	for _, gw := range e.DefaultRoute {
		out = append(out, "default route "+gw.String())
	}
	if len(out) == 0 {
		return ""
	}
	return ", " + strings.Join(out, ", ")
}

// definitions finds the networks and judges them as the webhook does.
func (c *chain) definitions() {
	l := c.link(linkDefinitions)
	if c.facts.Known.Networks == nil {
		l.unknown("the definitions cannot be read: %s", c.facts.Unread)
		return
	}
	pod := c.facts.Pod
	object := fmt.Sprintf("Pod %q", c.report.Pod)
	var selections []validate.Selection
	for _, w := range c.wishes {
		selections = append(selections, w.Selection)
	}
	all, found := validate.Resolve(object, pod.Namespace, selections, c.facts.Known, c.facts.Known.Networks.Network)
	for _, f := range found {
		l.fail(howToFind(f), "%s", f)
	}
	for i, d := range all {
		if d == nil {
			continue
		}
		w := &c.wishes[i]
		w.definition = d
		if r := validate.ResourcesOf(d, c.facts.Known.ResourceKeys); len(r) > 0 {
			w.resource = r[0]
		}
		if n, err := netconf.ParseNetwork("", []byte(d.Spec.Config), d.Name); err == nil {
			w.network = &n
		}
		l.say("%s: %s", w.ref, w.summary())
		for _, f := range validate.Denied(validate.Network(d, c.facts.Known)) {
			l.fail("correct the definition "+w.ref+"; the pod then starts by itself", "%s", f)
		}
	}
	for _, f := range validate.Denied(validate.Asked(object, pod.Namespace, pod, selections, all, c.facts.Known)) {
		l.fail("correct what the pod asks of the network and make it again", "%s", f)
	}
}

// howToFind says what to do about a network that cannot be had. Where namespaces are
// isolated, another's definition is of no use, whether it is there or not.
func howToFind(f validate.Finding) string {
	if strings.HasSuffix(f.Refusal.Field, ".namespace") {
		return "name a network of a namespace that is allowed, and make the pod again; or add the namespace to globalNamespaces of the node"
	}
	return "make the definition, or name one that exists; the pod then starts by itself"
}

// summary tells a network in a few words.
func (w wish) summary() string {
	out := w.kind()
	if w.resource != "" {
		out += ", resource " + w.resource
	}
	if kind := w.ipam(); kind != "" {
		out += ", ipam " + kind
	}
	return out
}

// needed counts the resources that the networks need, by name.
func (c *chain) needed() map[string]int64 {
	out := map[string]int64{}
	for _, w := range c.wishes {
		if w.resource != "" && strings.Contains(w.resource, "/") {
			out[w.resource]++
		}
	}
	return out
}

// requested is what the pod's containers ask of a resource, as the scheduler
// counts it.
func requested(pod *corev1.Pod, resource string) int64 {
	var sum, most int64
	of := func(c corev1.Container) int64 {
		limit, request := c.Resources.Limits[corev1.ResourceName(resource)], c.Resources.Requests[corev1.ResourceName(resource)]
		return max(limit.Value(), request.Value())
	}
	// An init container that stays (a sidecar) has its devices while the later ones
	// and the containers have theirs; any other gives them to who comes after it.
	for _, c := range pod.Spec.InitContainers {
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			sum += of(c)
		} else {
			most = max(most, sum+of(c))
		}
	}
	for _, c := range pod.Spec.Containers {
		sum += of(c)
	}
	return max(sum, most)
}

// Requested counts what a pod asks of every extended resource.
func Requested(pod *corev1.Pod) map[string]int64 {
	out := map[string]int64{}
	for _, c := range append(slices.Clone(pod.Spec.InitContainers), pod.Spec.Containers...) {
		for name := range c.Resources.Limits {
			if r := string(name); strings.Contains(r, "/") {
				out[r] = requested(pod, r)
			}
		}
	}
	return out
}

// injection checks that the containers ask for the devices that the networks need.
func (c *chain) injection() {
	l := c.link("injection")
	needed := c.needed()
	switch {
	case len(needed) == 0 && c.undefined():
		l.none("whether a device is needed is not known without the definition")
	case len(needed) == 0:
		l.none("no network needs a device of the kubelet")
	}
	for _, r := range slices.Sorted(maps.Keys(needed)) {
		n := requested(c.facts.Pod, r)
		switch {
		case n >= needed[r]:
			l.say("%s: %d needed, %d asked for%s", r, needed[r], n, c.injected())
		case len(c.facts.Pod.Spec.ResourceClaims) > 0:
			l.say("%s: %d needed, %d asked for; the pod has resource claims, which may bring the rest", r, needed[r], n)
		default:
			l.fail(c.howToAsk(r, needed[r]), "%s: %d needed, %d asked for by the containers", r, needed[r], n)
			l.say("%s", c.webhook())
		}
	}
}

func (c *chain) injected() string {
	if c.facts.Pod.Annotations[inject.InjectedAnnotation] != "" {
		return ", injected"
	}
	return ""
}

func (c *chain) webhook() string {
	switch w := c.facts.Webhook; {
	case w.Unread != "":
		return "whether injection is installed is not known: " + w.Unread
	case !w.Installed:
		return "injection is not installed: nothing adds resources to pods"
	case w.Skips != "":
		return "injection is not asked about this pod: " + w.Skips
	case w.Ready == 0:
		return "injection is installed and none of its replicas is ready"
	}
	return "injection is installed: the pod was made before it, or was made without it"
}

func (c *chain) howToAsk(resource string, n int64) string {
	w := c.facts.Webhook
	byHand := fmt.Sprintf("add resources.limits[%s]: %d to a container and make the pod again", resource, n)
	switch {
	case w.Unread != "" || !w.Installed:
		return byHand + ", or install the controller, which does it"
	case w.Skips != "":
		return byHand + ", or take the label tendril.dev/webhook away"
	case w.Ready == 0:
		return "see why the controller is not ready (kubectl -n tendril-system get pods), then make the pod again"
	}
	return "make the pod again: injection is there now"
}
