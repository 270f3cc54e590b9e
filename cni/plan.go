package cni

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"strings"

	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/cni/refusal"
	"github.com/tendril-cni/tendril/ipam"
)

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
	// Ordinal says that the pod is one of a StatefulSet: its name comes again.
	Ordinal bool
	// Flat are whereabouts' defaults on this node (ipam.MergeFlat), nil for none.
	Flat json.RawMessage
	// Default is the pod's default network.
	Default Choice
	// Filed says that its address files, if it has such, are there for the daemon.
	Filed bool
	// Choices are the other networks, in the order in which they are numbered.
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
	// Warnings are requests that are served, but perhaps not as they are meant.
	Warnings []string
}

// Plan decides every attachment of a pod before anything is touched: the default
// network first, then the order of the choices. It is pure. The first input that
// cannot be served makes the whole plan an error that names it (invariant 9).
func Plan(w Wanted) ([]Planned, error) {
	p := planner{wanted: w, taken: map[string]string{}, used: map[string]int{}}
	var plan []Planned
	for i, c := range append([]Choice{w.Default}, w.Choices...) {
		one, err := p.choose(i, c)
		if err != nil {
			return nil, inPod(err, w.Pod)
		}
		plan = append(plan, one)
	}
	return plan, provide(plan)
}

// inPod names the pod in err, where there is one.
func inPod(err error, pod PodRef) error {
	if pod.Name == "" {
		return err
	}
	return fmt.Errorf("pod %s: %w", pod, err)
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

// choose plans the choice at position i, of which 0 is the default network.
func (p *planner) choose(i int, c Choice) (Planned, error) {
	network, err := c.network()
	if err != nil {
		return Planned{}, refusal.Name(err, c.object())
	}
	dir, own := "", network.Native()
	if i == 0 {
		dir, own = p.wanted.primary(network)
	}
	warnings, err := servable(c, network, own)
	if err != nil {
		return Planned{}, refusal.Name(err, c.Where)
	}
	if network, err = netconf.WithArgs(network, c.Element.CNIArgs); err != nil {
		return Planned{}, refusal.Name(err, c.object())
	}
	ifName, err := p.name(i, c)
	if err != nil {
		return Planned{}, err
	}
	a := p.wanted.attachment(network, ifName)
	a.Network, a.MAC, a.Default, a.Filed = c.name(network), c.Element.MAC, i == 0, dir
	if !own {
		a.Kind, a.Filed = KindExec, ""
	}
	if c.Asked {
		a.Selection = &c.Element
	}
	if a.Default {
		a.RuntimeConfig = p.wanted.RuntimeConfig
	}
	if err := p.device(&a, c); err != nil {
		return Planned{}, err
	}
	if a.Kind == KindExec {
		return Planned{Attachment: foreign(a, c.Element), Warnings: warnings}, refusal.Name(foreignIPAM(a), c.object())
	}
	one, err := p.wanted.native(a, c.Element)
	return one, refusal.Name(err, c.object())
}

// name gives the interface its name: the one asked for, or the runtime's for the
// default network and net<position> for the others.
func (p *planner) name(i int, c Choice) (string, error) {
	name := c.Element.Interface
	switch {
	case name != "":
	case i == 0:
		name = p.wanted.IfName
	default:
		name = fmt.Sprintf("net%d", i)
	}
	if by, ok := p.taken[name]; ok {
		return "", refusal.New(c.Where, "interface", name, fmt.Sprintf("a name that no other network of the pod has; %s has this one", by))
	}
	p.taken[name] = c.described()
	return name, nil
}

// device gives the attachment its device: the next one of the definition's
// resource that the kubelet gave to the pod.
func (p *planner) device(a *Attachment, c Choice) error {
	resource := c.Definition.Resource
	if resource == "" {
		if a.Kind == KindSriov && c.Element.DeviceID == "" {
			return refusal.New(c.object(), "metadata.annotations[k8s.v1.cni.cncf.io/resourceName]", "", "the extended resource whose VFs this network uses")
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
			fmt.Sprintf("at least %d: network %s needs one more device than the kubelet gave to the pod", n+1, a.Network))
	}
	p.used[resource]++
	a.Device = given[n]
	a.Config = netconf.WithDevice(a.Config, a.Device)
	return nil
}

// servable refuses what is asked for and would be dropped in silence, and warns
// of what only CNI_ARGS carry. own says that n is served in process.
func servable(c Choice, n netconf.Network, own bool) (warnings []string, err error) {
	e := c.Element
	if missing := undeclared(e, n, own); len(missing) > 0 {
		return nil, refusal.New("", missing[0], "set", fmt.Sprintf("only with a network that declares the capability; %s does not declare %s", c.described(), strings.Join(missing, ", ")))
	}
	if own {
		return nil, nil
	}
	for _, capability := range netconf.Undeclared(n, e) {
		warnings = append(warnings, fmt.Sprintf("network %s declares no capability %s; what the pod asks for reaches its plugins in CNI_ARGS alone", c.described(), capability))
	}
	return warnings, nil
}

// undeclared returns the capabilities asked for that nothing serves. The native
// kinds take addresses and MACs whether or not the network says so, as their
// reference plugins and some others do through CNI_ARGS.
func undeclared(e netconf.Element, n netconf.Network, own bool) []string {
	var out []string
	for _, c := range netconf.Undeclared(n, e) {
		if own && (c == "ips" || c == "mac" && kindOf(n) != KindIpvlan) || netconf.ReadsArgs(n, c) {
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

// ipamDHCP is the ipam type whose addresses come once the interface is there.
const ipamDHCP = "dhcp"

// macOfParent reports whether links of the kind are made with the hardware
// address of the link that they ride on.
func macOfParent(kind string) bool { return kind == KindIpvlan || kind == KindVlan }

// native completes the plan of an attachment that a Driver serves. e is what the
// pod asks for, if it does.
func (w Wanted) native(a Attachment, e netconf.Element) (Planned, error) {
	raw, kind, err := netconf.ParseIPAM(a.Config.Plugins[0])
	if err != nil {
		return Planned{}, err
	}
	// The reference plugins answer with the network's dns, empty or not, and
	// never with that of the IPAM.
	if a.DNS, err = netconf.ParseDNS(a.Config.Plugins[0]); err != nil {
		return Planned{}, err
	}
	if err := unserved(a.Kind, e); err != nil {
		return Planned{}, err
	}
	a.Config = netconf.WithBandwidth(a.Config, e.Bandwidth)
	asked, err := netconf.AskedIPs(a.Config.Plugins[0], e)
	if err != nil {
		return Planned{}, err
	}
	if a.Config = netconf.WithMAC(a.Config, a.MAC); a.Config.Tunes() && macOfParent(a.Kind) {
		a.MAC = "" // it is for tuning to set
	}
	if kind == ipamDHCP {
		one, err := leased(a, asked)
		return one, errors.Join(err, noClaim(e, kind))
	}
	if kind == "" {
		if len(asked) > 0 {
			return Planned{}, refusal.New("", "ipam", "", "an ipam object, since the pod asks for addresses in this network")
		}
		return Planned{Attachment: a}, noClaim(e, kind)
	}
	cfg, err := w.addresses(raw, kind)
	if err != nil {
		return Planned{}, err
	}
	ips, err := ipam.ParseAsked(asked)
	if err != nil {
		return Planned{}, err
	}
	// What we hand out has one owner; what a configuration spells out, or another
	// hands out, has to be probed.
	a.Vouched = cfg.HostLocal != nil || cfg.Cluster != nil && len(cfg.Cluster.Static) == 0
	if a.Claim, err = w.claim(a, e, cfg); err != nil {
		return Planned{}, err
	}
	if a.Claim != "" && len(ips) > 0 {
		return Planned{}, refusal.New("", "ips", asked, "none for an attachment that has its addresses from IPAMClaim "+a.Claim)
	}
	return Planned{Attachment: a, IPAM: &cfg, Asked: ips}, nil
}

// foreign completes an attachment that an executable serves: CNI_ARGS and the
// capability arguments. The runtime's own are for the default network, and what
// the pod asks for goes over them; the default network's plugins are told of a
// device in their configuration alone, as Multus does it.
func foreign(a Attachment, e netconf.Element) Attachment {
	if e.MAC != "" {
		a.CNIArgs += ";MAC=" + e.MAC
	}
	if len(e.IPs) > 0 {
		a.CNIArgs += ";IP=" + strings.Join(e.IPs, ",")
	}
	device := a.Device
	if a.Default {
		device, e.DeviceID = "", ""
	}
	args := map[string]json.RawMessage{}
	maps.Copy(args, a.RuntimeConfig)
	for _, p := range a.Config.Plugins {
		maps.Copy(args, netconf.RuntimeConfig(p, e, device))
	}
	a.RuntimeConfig = args
	return withInfoFile(a)
}
