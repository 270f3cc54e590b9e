package validate

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	nad "github.com/k8snetworkplumbingwg/network-attachment-definition-client/pkg/apis/k8s.cni.cncf.io/v1"

	"github.com/tendril-cni/tendril/cni/netconf"
)

// Plugin types that have rules of their own.
const (
	typeSriov   = "sriov"
	typeMacvlan = "macvlan"
	typeIpvlan  = "ipvlan"
	typeVlan    = "vlan"
	typeBridge  = "bridge"
	typeTuning  = "tuning"
	typeBond    = "bond"
	typeVRF     = "vrf"
	typeSBR     = "sbr"

	typeHostDevice = "host-device"
)

// Network judges a definition on its own and against the other definitions.
// An empty configuration is one that lies on the nodes: there is nothing to
// judge.
func Network(d *nad.NetworkAttachmentDefinition, f Facts) []Finding {
	l := &list{object: networkObject(d)}
	config := []byte(d.Spec.Config)
	if len(bytes.TrimSpace(config)) == 0 {
		return nil
	}
	n, err := netconf.ParseNetwork(l.object, config, d.Name)
	if err != nil {
		l.refuse(structureCode(unwrap(err).Field), "spec.config.", err)
		return l.all
	}
	l.repeatedKeys(config)
	for i, p := range n.Plugins {
		l.plugin(pluginPath(n, config, i), p, f)
	}
	l.device(d, n, f)
	l.capabilities(n, config)
	l.unread(n, config)
	s := summarize(d, n)
	l.overlaps(s, f)
	l.nameTwice(s, f)
	l.master(d, n, config, f)
	l.resource(d, f)
	return l.all
}

func networkObject(d *nad.NetworkAttachmentDefinition) string {
	return objectName("NetworkAttachmentDefinition", d.Namespace, d.Name)
}

// structureCode maps the field that ParseNetwork refused.
func structureCode(field string) string {
	switch {
	case field == "":
		return NotAnObject
	case field == "cniVersion" || strings.HasPrefix(field, "cniVersions"):
		return UnknownVersion
	case strings.HasSuffix(field, "ipam.type") || strings.HasSuffix(field, "ipam"):
		return BadAddresses
	}
	return NoPlugin
}

// pluginPath is where plugin i of n stands in config.
func pluginPath(n netconf.Network, config []byte, i int) string {
	if len(n.Plugins) == 1 && field[string](config, "type") != "" {
		return "spec.config."
	}
	return fmt.Sprintf("spec.config.plugins[%d].", i)
}

// repeatedKeys finds keys that stand twice at the top. Readers take the last
// one; with two values nobody can say which was meant.
func (l *list) repeatedKeys(config []byte) {
	dec := json.NewDecoder(bytes.NewReader(config))
	if _, err := dec.Token(); err != nil {
		return
	}
	seen := map[string]string{}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return
		}
		var v json.RawMessage
		if dec.Decode(&v) != nil {
			return
		}
		name, text := strings.ToLower(key.(string)), string(v)
		if before, twice := seen[name]; twice {
			level := Warn
			if before != text {
				level = Deny
			}
			l.add(NotAnObject, level, "spec.config."+key.(string), short(text), "a key that stands once; before it is "+short(before))
		}
		seen[name] = text
	}
}

func short(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > 40 {
		s = strings.ToValidUTF8(s[:37], "") + "..."
	}
	return s
}

// plugin judges one entry of a chain on its own.
func (l *list) plugin(path string, p netconf.Plugin, f Facts) {
	if err := parse(p); err != nil {
		code := OutOfRange
		if unwrap(err).Field == "mode" {
			code = WrongMode
		}
		l.refuse(code, path, err)
	}
	if f.Plugins != nil && !slices.Contains(f.Plugins, p.Type) {
		level := Warn
		if f.Strict {
			level = Deny
		}
		l.add(UnknownPlugin, level, path+"type", p.Type, "a plugin that nodes have: "+strings.Join(f.Plugins, ", "))
	}
	l.addresses(path, p)
}

// parse reads an entry as the driver of its type would; types without a driver
// are their plugin's affair.
func parse(p netconf.Plugin) (err error) {
	switch p.Type {
	case typeSriov:
		_, err = netconf.ParseSriov(p)
	case typeMacvlan:
		_, err = netconf.ParseMacvlan(p)
	case typeIpvlan:
		_, err = netconf.ParseIpvlan(p)
	case typeVlan:
		_, err = netconf.ParseVlan(p)
	case typeBridge:
		_, err = netconf.ParseBridge(p)
	case typeBond:
		_, err = netconf.ParseBond(p)
	case typeTuning:
		_, err = netconf.ParseTuning(p)
	case typeSBR:
		_, err = netconf.ParseSBR(p)
	case typeVRF:
		_, err = netconf.ParseVRF(p)
	case typeHostDevice:
		_, err = netconf.ParseHostDevice(p)
	}
	return err
}

// device judges whether an sriov network can ever get a device.
func (l *list) device(d *nad.NetworkAttachmentDefinition, n netconf.Network, f Facts) {
	if len(ResourcesOf(d, f.ResourceKeys)) > 0 {
		return
	}
	for _, p := range n.Plugins {
		if p.Type == typeSriov && field[string](p.Raw, "deviceID") == "" {
			l.add(NoDevice, Deny, "metadata.annotations["+ResourceAnnotation+"]", "",
				"the extended resource whose VFs this network uses, or deviceID in the configuration")
			return
		}
	}
}

// capabilities judges whether what the chain declares can be honoured by it.
func (l *list) capabilities(n netconf.Network, config []byte) {
	for i, p := range n.Plugins {
		path := pluginPath(n, config, i) + "capabilities."
		if p.Type == typeIpvlan && p.Capabilities["mac"] {
			l.add(IdleCapability, Deny, path+"mac", true, "absent: an ipvlan has the address of its parent link")
		}
		if _, kind, _ := netconf.ParseIPAM(p); kind == "dhcp" && p.Capabilities["ips"] {
			l.add(IdleCapability, Deny, path+"ips", true, "absent: with dhcp the server chooses the address")
		}
	}
	if len(n.Plugins) == 1 && n.Plugins[0].Type == typeIpvlan && field[string](n.Plugins[0].Raw, "mac") != "" {
		l.add(IdleCapability, Deny, pluginPath(n, config, 0)+"mac", field[string](n.Plugins[0].Raw, "mac"), "absent: an ipvlan has the address of its parent link")
	}
}

// nameTwice judges whether the network name already means something else. Both
// networks work, so it is denied in strict mode alone, and there within a
// namespace: between namespaces it is the custom to install one set of
// definitions many times.
func (l *list) nameTwice(s *Summary, f Facts) {
	for _, o := range f.summaries() {
		if o.Network != s.Network || o.Ref() == s.Ref() || o.Type == s.Type && o.Master == s.Master && o.VLAN == s.VLAN {
			continue
		}
		level := Warn
		if f.Strict && o.Namespace == s.Namespace {
			level = Deny
		}
		l.add(NameTwice, level, "spec.config.name", s.Network,
			fmt.Sprintf("a name that no other network has; in %s it is %s, master %q, VLAN %d", o.Ref(), o.Type, o.Master, o.VLAN))
		return
	}
}

// master judges whether some node has the parent link.
func (l *list) master(d *nad.NetworkAttachmentDefinition, n netconf.Network, config []byte, f Facts) {
	if f.Links == nil {
		return
	}
	for i, p := range n.Plugins {
		name := field[string](p.Raw, "master")
		if name == "" || field[bool](p.Raw, "linkInContainer") || !slices.Contains([]string{typeMacvlan, typeIpvlan, typeVlan}, p.Type) {
			continue
		}
		links, known := f.Links(d.Annotations["k8s.v1.cni.cncf.io/nodeSelector"])
		if known && !links[name] && !mayBeVF(name, links) {
			l.add(UnknownMaster, Warn, pluginPath(n, config, i)+"master", name, "a link of the nodes: "+some(links))
		}
	}
}

// mayBeVF reports whether name is that of a VF by the custom of kernel and udev,
// <physical function>v<number>. VFs come and go with pods, so nodes do not report
// them.
func mayBeVF(name string, links map[string]bool) bool {
	parent := strings.TrimRight(name, "0123456789")
	pf, ok := strings.CutSuffix(parent, "v")
	return ok && parent != name && links[pf]
}

// resource judges whether anything provides the resource.
func (l *list) resource(d *nad.NetworkAttachmentDefinition, f Facts) {
	if f.Resources == nil {
		return
	}
	for _, r := range ResourcesOf(d, f.ResourceKeys) {
		if !f.Resources[r] {
			l.add(UnknownResource, Warn, "metadata.annotations["+ResourceAnnotation+"]", r, "a resource that a node or a device class provides: "+some(f.Resources))
		}
	}
}

// some lists a few names of a set: a message has one line.
func some(set map[string]bool) string {
	const most = 10
	names := slices.Sorted(maps.Keys(set))
	switch {
	case len(names) == 0:
		return "none so far"
	case len(names) > most:
		return strings.Join(names[:most], ", ") + fmt.Sprintf(" and %d more", len(names)-most)
	}
	return strings.Join(names, ", ")
}

// NetworkChange judges an update: what old already had does not deny, and what
// running pods will not see is said.
func NetworkChange(old, d *nad.NetworkAttachmentDefinition, f Facts) []Finding {
	out := Ratchet(Network(old, f), Network(d, f))
	before, after := Summarize(old), Summarize(d)
	if before == nil || after == nil {
		return out
	}
	l := &list{object: networkObject(d)}
	l.changed("type", before.Type, after.Type, d, f)
	l.changed("master", before.Master, after.Master, d, f)
	l.changed("vlan", fmt.Sprint(before.VLAN), fmt.Sprint(after.VLAN), d, f)
	l.changed("name", before.Network, after.Network, d, f)
	l.changed("ipam", fmt.Sprint(before.Ranges), fmt.Sprint(after.Ranges), d, f)
	l.shrunk(before, after, f)
	return append(out, l.all...)
}

func (l *list) changed(name, before, after string, d *nad.NetworkAttachmentDefinition, f Facts) {
	if before == after {
		return
	}
	who := "pods that run"
	if f.Attached != nil {
		count := f.Attached(d.Namespace, d.Name)
		if count == 0 {
			return
		}
		who = fmt.Sprintf("%d pods that run", count)
	}
	l.add(ChangedInUse, Warn, "spec.config."+name, short(after), who+" keep "+short(before)+" until they are made anew")
}
