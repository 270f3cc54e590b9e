package validate

import (
	"fmt"
	"net/netip"
	"slices"

	nad "github.com/k8snetworkplumbingwg/network-attachment-definition-client/pkg/apis/k8s.cni.cncf.io/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/tendril-cni/tendril/cni/netconf"
)

// Pod judges what a pod of namespace asks for. A pod without networks has no
// findings. pod may be a template: object names it.
func Pod(object, namespace string, pod *corev1.Pod, f Facts) []Finding {
	selections, out := Select(object, namespace, pod.Annotations, f)
	if len(out) > 0 || len(selections) == 0 {
		return out
	}
	definitions, out := Resolve(object, namespace, selections, f, f.network)
	return append(out, Asked(object, namespace, pod, selections, definitions, f)...)
}

// PodObject names a pod in findings. Most pods have no name yet when they are
// admitted.
func PodObject(namespace string, pod *corev1.Pod) string {
	name := pod.Name
	if name == "" {
		name = pod.GenerateName + "*"
	}
	return objectName("Pod", namespace, name)
}

// Asked judges the selections of a pod of namespace against their definitions,
// which are nil where they are not known.
func Asked(object, namespace string, pod *corev1.Pod, selections []Selection, definitions []*nad.NetworkAttachmentDefinition, f Facts) []Finding {
	a := &asked{list: list{object: object}, namespace: namespace, facts: f, selections: selections, definitions: definitions}
	a.networks = make([]*netconf.Network, len(selections))
	for i, d := range definitions {
		if d == nil {
			continue
		}
		// A definition that does not parse was denied, or warned about, itself.
		if n, err := netconf.ParseNetwork("", []byte(d.Spec.Config), d.Name); err == nil {
			a.networks[i] = &n
		}
	}
	a.interfaces()
	a.hardware()
	a.ips()
	a.capabilities()
	a.defaultRoutes()
	if pod.Spec.HostNetwork {
		a.add(BadPlace, Warn, "spec.hostNetwork", true, "false: a pod of the host network gets no networks")
	}
	a.resources(pod)
	return a.all
}

// asked is one pod being judged.
type asked struct {
	list
	namespace   string
	facts       Facts
	selections  []Selection
	definitions []*nad.NetworkAttachmentDefinition
	networks    []*netconf.Network // nil where not known
}

// interfaces judges names against those that others have: lo, the default
// network's, and net<n> of networks that nobody named. What n is depends on how
// many networks the node gives by itself: a name that is taken on some nodes only
// is warned about.
func (a *asked) interfaces() {
	counts := a.facts.given(a.namespace)
	for _, s := range a.selections {
		name := s.Element.Interface
		if s.Index < 0 || name == "" {
			continue
		}
		var by string
		taken := 0
		for _, given := range counts {
			if owner := a.owners(given)[name]; owner != "" {
				by, taken = owner, taken+1
			}
		}
		switch {
		case taken == len(counts):
			a.add(BadInterface, Deny, s.field("interface"), name, "another name: "+by+" has this one")
		case taken > 0:
			a.add(BadInterface, Warn, s.field("interface"), name, "another name: "+by+" has this one on some nodes")
		}
	}
}

// owners returns who has which interface name without having asked for it, on a
// node that gives so many networks by itself.
func (a *asked) owners(given int) map[string]string {
	first := a.facts.defaultInterface()
	for _, s := range a.selections {
		if s.Index < 0 && s.Element.Interface != "" {
			first = s.Element.Interface
		}
	}
	owner := map[string]string{"lo": "the loopback", first: "the default network"}
	for n := range given {
		owner[autoName(n)] = fmt.Sprintf("network %d of those that the node gives to every pod", n+1)
	}
	for _, s := range a.selections {
		if s.Index >= 0 && s.Element.Interface == "" {
			owner[autoName(given+s.Index)] = fmt.Sprintf("element %d, which names none,", s.Index)
		}
	}
	return owner
}

// autoName is the interface of the network at position n, from 0, when nobody
// named it: the default network counts as well.
func autoName(n int) string { return fmt.Sprintf("net%d", n+1) }

// hardware judges MAC addresses. Two interfaces of one pod may share one when
// they are bonded.
func (a *asked) hardware() {
	seen := map[string]int{}
	for _, s := range a.selections {
		mac := s.Element.MAC
		if mac == "" {
			continue
		}
		if _, ok := netconf.ParseMAC(mac); len(mac) == len("00:00:00:00:00:00") && !ok {
			a.add(BadRequest, Deny, s.field("mac"), mac, "a unicast Ethernet address such as 02:00:00:00:00:01")
		}
		if before, twice := seen[mac]; twice && !a.anyType(typeBond) {
			a.add(BadRequest, Deny, s.field("mac"), mac, fmt.Sprintf("an address that element %d does not ask for", before))
		}
		seen[mac] = s.Index
	}
}

// anyType reports whether a network of the pod has a plugin of kind.
func (a *asked) anyType(kind string) bool {
	return slices.ContainsFunc(a.networks, func(n *netconf.Network) bool { return n != nil && hasType(*n, kind) })
}

func hasType(n netconf.Network, kind string) bool {
	return slices.ContainsFunc(n.Plugins, func(p netconf.Plugin) bool { return p.Type == kind })
}

// ips judges the addresses asked for: each once, and within the ranges of a
// host-local network, which refuses others. An address may stand twice when a
// VRF keeps the interfaces apart.
func (a *asked) ips() {
	seen := map[netip.Addr]int{}
	for i, s := range a.selections {
		for j, text := range s.Element.IPs {
			addr, ok := address(text)
			if !ok {
				continue // the parser has refused it
			}
			field := s.field(fmt.Sprintf("ips[%d]", j))
			if before, twice := seen[addr]; twice && !a.anyType(typeVRF) {
				a.add(BadRequest, Deny, field, text, fmt.Sprintf("an address that is asked for once; element %d has it", before))
			}
			seen[addr] = s.Index
			a.inRange(field, text, addr, a.networks[i])
		}
	}
}

func (a *asked) inRange(field, text string, addr netip.Addr, n *netconf.Network) {
	if n == nil {
		return
	}
	raw, kind, _ := netconf.ParseIPAM(n.Plugins[0])
	ranges := rangesOf(raw, kind)
	if len(ranges) == 0 || slices.ContainsFunc(ranges, func(s Span) bool { return s.Contains(addr) }) {
		return
	}
	level := Warn
	if kind == "host-local" {
		level = Deny
	}
	a.add(BadRequest, level, field, text, fmt.Sprintf("an address of network %q: %v", n.Name, ranges))
}

func address(text string) (netip.Addr, bool) {
	if p, err := netip.ParsePrefix(text); err == nil {
		return p.Addr().Unmap(), true
	}
	addr, err := netip.ParseAddr(text)
	return addr.Unmap(), err == nil
}

// capabilities judges requests that nothing in the network serves (NPWG v1.3:
// such an attachment must fail). The kinds served in process take addresses and
// MACs whether or not the network declares it, and so do plugins that read them
// from CNI_ARGS.
func (a *asked) capabilities() {
	for i, s := range a.selections {
		n := a.networks[i]
		if n == nil || s.Index < 0 {
			continue
		}
		for _, c := range netconf.Undeclared(*n, s.Element) {
			kind := n.Plugins[0].Type
			if n.Native() && (c == "ips" || c == "mac" && kind != typeIpvlan) || netconf.ReadsArgs(*n, c) {
				continue
			}
			a.add(NoCapability, Deny, s.field(requestKey(c)), "set", fmt.Sprintf("only with a network that declares the capability %q; %s does not", c, s.Element.Ref()))
		}
		_, ipam, _ := netconf.ParseIPAM(n.Plugins[0])
		if n.Native() && ipam == "" && len(s.Element.IPs) > 0 {
			a.add(NoCapability, Deny, s.field("ips"), s.Element.IPs[0], "absent: "+s.Element.Ref()+" has no ipam")
		}
	}
}

// requestKey is the key of the annotation that asks for a capability.
func requestKey(capability string) string {
	if capability == "infinibandGUID" {
		return "infiniband-guid"
	}
	return capability
}

// defaultRoutes judges that one default route of each family is asked for.
func (a *asked) defaultRoutes() {
	seen := map[bool]int{}
	for _, s := range a.selections {
		for j, gw := range s.Element.DefaultRoute {
			if before, twice := seen[gw.Is4()]; twice {
				a.add(BadPlace, Deny, s.field(fmt.Sprintf("default-route[%d]", j)), gw.String(), fmt.Sprintf("one default route of each family; element %d has one", before))
			}
			seen[gw.Is4()] = s.Index
		}
	}
}
