package explain

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// trouble is what an event complains of.
type trouble struct {
	// link is the link of the chain that it belongs to.
	link string
	says string
	// do is what to do about it.
	do string
}

// sign is a text by which a trouble is known.
type sign struct {
	text, link, do string
}

// signs are looked for in order: the more special first.
var signs = []sign{
	{"tendrild did not answer", linkDaemon, "see why the daemon of the node does not answer: kubectl tendril doctor"},
	{"tendril.sock", linkDaemon, "see why the daemon of the node does not answer: kubectl tendril doctor"},
	{"a NetworkAttachmentDefinition that exists", linkDefinitions, "make the definition, or name one that exists; the pod then starts by itself"},
	{"no free address", linkAddresses, "free addresses or make the range larger: kubectl tendril ips --holders"},
	{"it is free once that sandbox is deleted", linkDevices, "delete the pod that has the device, or wait for it to end"},
	{"in quarantine", linkDevices, "see what keeps the VF from its baseline: kubectl tendril vfs -o wide"},
	{"UnexpectedAdmissionError", linkDevices, "make the pod again: the kubelet refused its devices, and never tries a second time"},
	{"Allocate failed", linkDevices, "make the pod again: the kubelet refused its devices, and never tries a second time"},
	{"field spec.containers[].resources.limits[", linkDevices, "have the pod's containers ask for as many devices as its networks need, or let injection do it"},
	{"field deviceID:", linkDevices, "see what the device is now: kubectl tendril vfs -o wide"},
	{"find plugin", linkAttachments, "install the plugin into the runtime's CNI directory of the node (kubectl tendril doctor lists what is there)"},
	{"readinessindicatorfile", linkDaemon, "the default network is not ready on the node: look at its agent's pods"},
	{"usable configuration of a default network", linkAttachments, "install a default network on the node: kubectl tendril doctor lists the CNI files"},
	{"wait for pod", linkDaemon, "the daemon does not see the pod: it has lost the API server (kubectl tendril doctor)"},
}

// reasons of events that tell of networks. The others are listed and not judged.
var reasons = []string{"FailedCreatePodSandBox", "FailedAddingInterface", "NoNetworkFound", "UnexpectedAdmissionError", "NetworkNotReady"}

// refused finds a refusal in a text: object, field, value, what is allowed. The
// object is all from the colon before it.
var refused = regexp.MustCompile(`(?:(?:^|: )((?:[^:]|:\S)+): )?field ([^\s:]+): value (.+?) is not allowed; allowed: (.+)`)

// troubleOf returns the trouble of the newest event that tells of networks. The
// daemon's own words count before those that the kubelet puts around them.
func troubleOf(events []corev1.Event) trouble {
	var best *corev1.Event
	for _, e := range newestFirst(events) {
		if e.Type != corev1.EventTypeWarning || !slices.Contains(reasons, e.Reason) {
			continue
		}
		if best == nil || best.Reason == "FailedCreatePodSandBox" && e.Reason != best.Reason && when(*best).Sub(when(e)) < 5*time.Minute {
			best = &e
		}
	}
	if best == nil {
		return trouble{}
	}
	return name(best.Reason, best.Message)
}

// name finds out what a message is about.
func name(reason, message string) trouble {
	t := trouble{link: linkAttachments, says: inner(message)}
	for _, s := range signs {
		if strings.Contains(reason+" "+message, s.text) {
			t.link, t.do = s.link, s.do
			break
		}
	}
	if m := refused.FindStringSubmatch(t.says); m != nil && t.do == "" {
		t.do = strings.Join(strings.Fields(fmt.Sprintf("set %s of %s to what is allowed: %s", m[2], or(m[1], "the network"), m[4])), " ")
	}
	if t.do == "" {
		t.do = "the message above is what the node said last; kubectl tendril bundle collects what somebody needs who is to look at it"
	}
	return t
}

func or(a, b string) string {
	if a == "" {
		return b
	}
	return a
}

// sandbox is what kubelet and runtime put before a CNI error.
var sandbox = regexp.MustCompile(`^Failed to create pod sandbox: .*?plugin type="[^"]*"(?: name="[^"]*")? failed \(add\): `)

// inner takes the runtime's wrapping off.
func inner(message string) string {
	return strings.Join(strings.Fields(sandbox.ReplaceAllString(message, "")), " ")
}

func when(e corev1.Event) time.Time {
	switch {
	case !e.LastTimestamp.IsZero():
		return e.LastTimestamp.Time
	case e.Series != nil:
		return e.Series.LastObservedTime.Time
	case !e.EventTime.IsZero():
		return e.EventTime.Time
	}
	return e.CreationTimestamp.Time
}

func newestFirst(events []corev1.Event) []corev1.Event {
	out := slices.Clone(events)
	slices.SortStableFunc(out, func(a, b corev1.Event) int { return when(b).Compare(when(a)) })
	return out
}

// events lists the last things that went wrong, each once.
func (c *chain) events() {
	const most = 5
	l := c.link("events")
	l.State = None
	if c.facts.Unheard != "" {
		l.say("not known: %s", c.facts.Unheard)
		return
	}
	seen := map[string]bool{}
	for _, e := range newestFirst(c.facts.Events) {
		line := fmt.Sprintf("%s: %s", e.Reason, cut(inner(e.Message)))
		if e.Type != corev1.EventTypeWarning || seen[line] {
			continue
		}
		if seen[line] = true; len(seen) > most {
			break
		}
		l.say("%s", line)
	}
	if len(l.Says) == 0 {
		l.say("none that warn")
	}
}

// cut keeps a line on a screen.
func cut(text string) string {
	const most = 200
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "..."
}
