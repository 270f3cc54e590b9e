package cni

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"

	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/cni/refusal"
	"github.com/tendril-cni/tendril/ipam"
)

// Choice is one network that a pod asks for, with what the cluster says of it.
type Choice struct {
	Element    netconf.Element
	Definition Definition
}

// Wanted is all that Plan looks at.
type Wanted struct {
	ContainerID string
	// IfName is the name that the runtime gave for the default network.
	IfName  string
	Netns   Netns
	CNIArgs string
	// RuntimeConfig is the runtime's own (port mappings and the like): it is
	// meant for the default network alone (NPWG v1.3 section 7.5).
	RuntimeConfig map[string]json.RawMessage
	Pod           PodRef
	Default       netconf.Network
	// Choices in the order of the annotation.
	Choices []Choice
	// Devices that the kubelet gave to the pod, by extended resource, in the
	// kubelet's order.
	Devices map[string][]string
}

// Planned is an attachment and, for native kinds, the addresses it still has to
// get. IPAM is nil where none are wanted.
type Planned struct {
	Attachment Attachment
	IPAM       *ipam.Config
	// Asked are the addresses that the pod asked for by name; a bare address has
	// the prefix length of its family.
	Asked []netip.Prefix
}

// Plan decides every attachment of a pod before anything is touched: the default
// network first, then the annotation's order. It is pure. The first input that
// cannot be served makes the whole plan an error that names it (invariant 9).
func Plan(w Wanted) ([]Planned, error) {
	first, err := w.defaultAttachment()
	if err != nil {
		return nil, err
	}
	p := planner{wanted: w, taken: map[string]string{w.IfName: first.Attachment.Network}, used: map[string]int{}}
	plan := []Planned{first}
	for i, c := range w.Choices {
		one, err := p.choose(i, c)
		if err != nil {
			return nil, fmt.Errorf("pod %s: %w", w.Pod, err)
		}
		plan = append(plan, one)
	}
	return plan, nil
}

// planner carries what earlier choices have taken.
type planner struct {
	wanted Wanted
	taken  map[string]string // interface name -> network
	used   map[string]int    // resource -> devices handed out
}

func (w Wanted) attachment(network netconf.Network, ifName string) Attachment {
	return Attachment{
		ContainerID: w.ContainerID, IfName: ifName, Call: w.IfName, Pod: w.Pod, Netns: w.Netns,
		Config: network, CNIArgs: w.CNIArgs, Kind: kindOf(network),
	}
}

func (w Wanted) defaultAttachment() (Planned, error) {
	a := w.attachment(w.Default, w.IfName)
	a.Network, a.Default, a.RuntimeConfig = w.Default.Name, true, w.RuntimeConfig
	p, err := native(a, nil)
	return p, refusal.Name(err, fmt.Sprintf("default network %q", w.Default.Name))
}

func (p *planner) choose(i int, c Choice) (Planned, error) {
	object := fmt.Sprintf("NetworkAttachmentDefinition %q", c.Definition.Ref())
	network, err := netconf.ParseNetwork(object, []byte(c.Definition.Config), c.Definition.Name)
	if err != nil {
		return Planned{}, refusal.Name(err, object)
	}
	if err := servable(c.Element, network); err != nil {
		return Planned{}, refusal.Name(err, fmt.Sprintf("networks annotation element %d (%s)", i, c.Element.Ref()))
	}
	if network, err = netconf.WithArgs(network, c.Element.CNIArgs); err != nil {
		return Planned{}, refusal.Name(err, object)
	}
	ifName, err := p.name(i, c.Element)
	if err != nil {
		return Planned{}, err
	}
	a := p.wanted.attachment(network, ifName)
	a.Network, a.MAC, a.Selection = c.Element.Ref(), c.Element.MAC, &c.Element
	if err := p.device(&a, c, object); err != nil {
		return Planned{}, err
	}
	if a.Kind == KindExec {
		return Planned{Attachment: foreign(a, c.Element)}, nil
	}
	one, err := native(a, &c.Element)
	return one, refusal.Name(err, object)
}

// name gives the interface its name: the one asked for, or net<position> where
// the default network has position 0.
func (p *planner) name(i int, e netconf.Element) (string, error) {
	name := e.Interface
	if name == "" {
		name = fmt.Sprintf("net%d", i+1)
	}
	if by, ok := p.taken[name]; ok {
		return "", refusal.New(fmt.Sprintf("networks annotation element %d (%s)", i, e.Ref()), "interface", name,
			fmt.Sprintf("a name that no other network of the pod has; %s has this one", by))
	}
	p.taken[name] = e.Ref()
	return name, nil
}

// device gives the attachment its device: the next one of the definition's
// resource that the kubelet gave to the pod.
func (p *planner) device(a *Attachment, c Choice, object string) error {
	resource := c.Definition.Resource
	if resource == "" {
		if a.Kind == KindSriov && c.Element.DeviceID == "" {
			return refusal.New(object, "metadata.annotations[k8s.v1.cni.cncf.io/resourceName]", "", "the extended resource whose VFs this network uses")
		}
		if a.Device = c.Element.DeviceID; a.Device != "" {
			a.Config = netconf.WithDevice(a.Config, a.Device)
		}
		return nil
	}
	a.Resource = resource
	n, given := p.used[resource], p.wanted.Devices[resource]
	if n >= len(given) {
		return refusal.New(fmt.Sprintf("pod %q", p.wanted.Pod), fmt.Sprintf("spec.containers[].resources.limits[%s]", resource), len(given),
			fmt.Sprintf("at least %d: network %s needs one more device than the kubelet gave to the pod", n+1, c.Element.Ref()))
	}
	p.used[resource]++
	a.Device = given[n]
	a.Config = netconf.WithDevice(a.Config, a.Device)
	return nil
}

// servable refuses what is asked for and would be dropped in silence.
func servable(e netconf.Element, n netconf.Network) error {
	if missing := undeclared(e, n); len(missing) > 0 {
		return refusal.New("", missing[0], "set", fmt.Sprintf("only with a network that declares the capability; %q does not declare %s", n.Name, strings.Join(missing, ", ")))
	}
	if e.DefaultRoute != nil {
		return refusal.New("", "default-route", fmt.Sprint(e.DefaultRoute), "no value yet: Tendril does not move default routes in this version")
	}
	if e.IPAMClaim != "" {
		return refusal.New("", "ipam-claim-reference", e.IPAMClaim, "no value yet: Tendril does not read IPAMClaims in this version")
	}
	return nil
}

// undeclared returns the capabilities asked for that nothing serves. The native
// kinds take addresses and MACs whether or not the network says so, as their
// reference plugins and some others do through CNI_ARGS.
func undeclared(e netconf.Element, n netconf.Network) []string {
	var out []string
	for _, c := range netconf.Undeclared(n, e) {
		if n.Native() && (c == "ips" || c == "mac" && kindOf(n) != KindIpvlan) || netconf.ReadsArgs(n, c) {
			continue
		}
		out = append(out, c)
	}
	return out
}

func kindOf(n netconf.Network) string {
	if n.Native() {
		return n.Plugins[0].Type
	}
	return KindExec
}

// native completes the plan of an attachment that a Driver serves. e is nil for
// the default network, which nobody asks by name.
func native(a Attachment, e *netconf.Element) (Planned, error) {
	if a.Kind == KindExec {
		return Planned{Attachment: a}, nil
	}
	raw, kind, err := netconf.ParseIPAM(a.Config.Plugins[0])
	if err != nil {
		return Planned{}, err
	}
	// The reference plugins answer with the network's dns, empty or not, and
	// never with that of the IPAM.
	if a.DNS, err = netconf.ParseDNS(a.Config.Plugins[0]); err != nil {
		return Planned{}, err
	}
	var asked []string
	if e != nil {
		if asked, err = netconf.AskedIPs(a.Config.Plugins[0], *e); err != nil {
			return Planned{}, err
		}
	}
	if kind == "" {
		if len(asked) > 0 {
			return Planned{}, refusal.New("", "ipam", "", "an ipam object, since the pod asks for addresses in this network")
		}
		return Planned{Attachment: a}, nil
	}
	cfg, err := ipam.Parse(raw)
	if err != nil {
		return Planned{}, err
	}
	ips, err := ipam.ParseAsked(asked)
	if err != nil {
		return Planned{}, err
	}
	// What we hand out has one owner; what a configuration spells out, or another
	// hands out, has to be probed.
	a.Vouched = cfg.HostLocal != nil
	return Planned{Attachment: a, IPAM: &cfg, Asked: ips}, nil
}

// foreign completes an attachment that an executable serves: CNI_ARGS and the
// capability arguments.
func foreign(a Attachment, e netconf.Element) Attachment {
	if e.MAC != "" {
		a.CNIArgs += ";MAC=" + e.MAC
	}
	if len(e.IPs) > 0 {
		a.CNIArgs += ";IP=" + strings.Join(e.IPs, ",")
	}
	a.RuntimeConfig = map[string]json.RawMessage{}
	for _, p := range a.Config.Plugins {
		for k, v := range netconf.RuntimeConfig(p, e, a.Device) {
			a.RuntimeConfig[k] = v
		}
	}
	return a
}
