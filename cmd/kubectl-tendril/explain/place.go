package explain

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/tendril-cni/tendril/vf/v1alpha1"
)

// scheduling says where the pod is, or what keeps it from being anywhere.
func (c *chain) scheduling() {
	l := c.link("scheduling")
	pod := c.facts.Pod
	if pod.Spec.NodeName != "" {
		l.say("on %s", pod.Spec.NodeName)
		return
	}
	said := ""
	for _, cond := range pod.Status.Conditions {
		if cond.Type == corev1.PodScheduled && cond.Status == corev1.ConditionFalse {
			said = cond.Message
		}
	}
	if said == "" {
		l.wait("the scheduler has not looked at the pod yet")
		return
	}
	l.fail("", "%s", said)
	for _, r := range slices.Sorted(maps.Keys(c.needed())) {
		do := c.supply(l, r)
		if strings.Contains(said, r) {
			l.advise(do)
		}
	}
	switch {
	case len(l.Do) > 0:
	case c.undefined():
		l.advise("the scheduler's message says what keeps the pod from the nodes; whether it is a device of its networks is not known without their definitions")
	default:
		l.advise("the scheduler's message says what keeps the pod from the nodes; it is no device of its networks")
	}
}

// supply says which node has how many of a resource, and returns what to do about
// it.
func (c *chain) supply(l *Link, resource string) (do string) {
	var offered, sick int64
	var holders, making []string
	for _, n := range c.facts.Nodes {
		has, all := n.Status.Allocatable[corev1.ResourceName(resource)], n.Status.Capacity[corev1.ResourceName(resource)]
		d := c.facts.Asked[n.Name][resource]
		offered, sick = offered+has.Value(), sick+all.Value()-has.Value()
		line := fmt.Sprintf("%s: %s %d of %d free", n.Name, resource, max(has.Value()-d.Count, 0), has.Value())
		if c.facts.Asked == nil {
			line = fmt.Sprintf("%s: %s %d offered, who has them is not known", n.Name, resource, has.Value())
		}
		if out := all.Value() - has.Value(); out > 0 {
			line += fmt.Sprintf(", %d more cannot be given out", out)
		}
		if slices.ContainsFunc(n.Spec.Taints, notReady) {
			making = append(making, n.Name)
		}
		l.say("%s%s", line, obstacles(n, c.facts.Pod))
		holders = append(holders, d.Pods...)
	}
	slices.Sort(holders)
	switch {
	case len(c.facts.Nodes) == 0:
		return fmt.Sprintf("which nodes offer %s, and who has it, is not known: somebody who may read nodes sees it (kubectl tendril status)", resource)
	case len(making) > 0:
		return fmt.Sprintf("wait for the VFs of %s, which are being made; if that takes minutes: kubectl tendril status", brief(making))
	case sick > 0:
		return "see why devices cannot be given out: kubectl tendril vfs -o wide"
	case offered == 0:
		return fmt.Sprintf("no node offers %s: put VFs into it by a VFPolicy or the pools' ConfigMap, and see kubectl tendril doctor", resource)
	}
	return fmt.Sprintf("delete pods that hold %s (%s), or offer more VFs by a VFPolicy (kubectl tendril plan)", resource, or(brief(holders), "who does is not known"))
}

func notReady(t corev1.Taint) bool { return t.Key == v1alpha1.NotReadyTaint }

// obstacles are what else keeps the pod from a node, as far as networks go.
func obstacles(n corev1.Node, pod *corev1.Pod) string {
	var out []string
	if slices.ContainsFunc(n.Spec.Taints, notReady) {
		out = append(out, "its VFs are still being made")
	}
	if n.Spec.Unschedulable {
		out = append(out, "cordoned")
	}
	for _, key := range slices.Sorted(maps.Keys(pod.Spec.NodeSelector)) {
		if v := pod.Spec.NodeSelector[key]; n.Labels[key] != v {
			out = append(out, fmt.Sprintf("not %s=%s", key, v))
		}
	}
	if len(out) == 0 {
		return ""
	}
	return " (" + strings.Join(out, "; ") + ")"
}

// brief lists some names.
func brief(names []string) string {
	const most = 5
	if n := len(names) - most; n > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), n)
	}
	return strings.Join(names, ", ")
}

// daemon says whether the node's daemon would serve the pod.
func (c *chain) daemon() {
	l := c.link(linkDaemon)
	d, node := c.facts.Daemon, c.facts.Pod.Spec.NodeName
	switch {
	case node == "":
		l.none("the pod is on no node yet")
	case d.Unread != "":
		l.unknown("whether a daemon is on %s is not known: %s", node, d.Unread)
	case d.Name == "":
		l.fail("see why the DaemonSet has no pod there: kubectl -n tendril-system describe daemonset tendrild (taints, node selector, quota)",
			"no tendrild runs on %s: the pod is not started without it", node)
	case d.Trouble != "":
		l.fail(fmt.Sprintf("read its log: kubectl -n tendril-system logs %s --previous; the pod starts by itself when it is back", d.Name),
			"%s on %s is not ready: %s", d.Name, node, d.Trouble)
	case d.Unasked != "":
		l.say("%s is ready; it was not asked: %s", d.Name, d.Unasked)
	case d.Host != nil && d.Host.NotReady != "":
		l.fail("what it waits for has to come; the pod then starts by itself", "%s cannot serve a pod now: %s", d.Name, d.Host.NotReady)
	default:
		l.say("%s is ready", d.Name)
	}
	if l.State == OK && c.trouble.link == linkDaemon && !c.whole() {
		l.wait("%s", c.trouble.says)
		l.advise("the daemon is back: the kubelet tries again within two minutes")
	}
}
