package deviceplugin

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/tendril-cni/tendril/vf"
)

// Selector is a conjunction: a device matches when it satisfies every list that
// is not empty. The zero Selector matches all devices of its resource's type.
type Selector struct {
	// Vendors and Devices are PCI ids of four lower-case hex digits; those of the
	// parent for an auxiliary device.
	Vendors, Devices []string
	// Drivers are names of bound kernel drivers.
	Drivers []string
	// Addresses are the devices' own PCI addresses.
	Addresses []vf.Addr
	// ACPIIndexes are the firmware's numbers of the devices; of the parent for an
	// auxiliary device.
	ACPIIndexes []string
	// PFNames select VFs and subfunctions by a name or altname of their PF's
	// network device.
	PFNames []vf.Functions
	// RootDevices select VFs and subfunctions by the PCI address of their PF.
	RootDevices []vf.Functions
	// LinkTypes are "ether" or "infiniband".
	LinkTypes []string
	// DDPProfiles are names of packages loaded in the PF's firmware.
	DDPProfiles []string
	// PKeys are default partition keys.
	PKeys []uint16
	// RDMA asks for devices with RDMA, and gives them their RDMA nodes.
	RDMA bool
	// VDPA is "vhost" or "virtio" and asks for devices with a vDPA device on that
	// driver; the first gives them its node.
	VDPA string
	// AuxTypes are types of auxiliary devices; only "sf" is there.
	AuxTypes []string
	// VhostNet is no condition: devices matched by this selector come with
	// /dev/vhost-net and /dev/net/tun, where the host has them.
	VhostNet bool
}

// parseSelectors reads one selector object or a list of them.
func parseSelectors(at place, raw json.RawMessage, of Type) ([]Selector, error) {
	if kind(raw) == '{' {
		s, err := parseSelector(at, raw, of)
		return []Selector{s}, err
	}
	if kind(raw) != '[' {
		return nil, at.refuse("", clip(raw), "an object or a list of objects")
	}
	var list []Selector
	err := at.list(raw, func(at place, raw json.RawMessage) error {
		s, err := parseSelector(at, raw, of)
		list = append(list, s)
		return err
	})
	return list, err
}

// selectable are the keys of a selector by device type (documentation of the
// SR-IOV network device plugin, "Selectors").
var selectable = map[Type][]string{
	NetDevice: {"vendors", "devices", "drivers", "pciAddresses", "acpiIndexes", "pfNames", "rootDevices",
		"linkTypes", "ddpProfiles", "pKeys", "isRdma", "vdpaType", "needVhostNet"},
	Accelerator: {"vendors", "devices", "drivers", "pciAddresses", "acpiIndexes"},
	AuxNetDevice: {"vendors", "devices", "drivers", "acpiIndexes", "pfNames", "rootDevices", "linkTypes",
		"isRdma", "needVhostNet", "auxTypes"},
}

func parseSelector(at place, raw json.RawMessage, of Type) (Selector, error) {
	var s Selector
	want := fields{
		"vendors":      each(&s.Vendors, hexID),
		"devices":      each(&s.Devices, hexID),
		"drivers":      each(&s.Drivers, notEmpty),
		"pciAddresses": each(&s.Addresses, address),
		"acpiIndexes":  each(&s.ACPIIndexes, notEmpty),
		"pfNames":      each(&s.PFNames, pfName(of)),
		"rootDevices":  each(&s.RootDevices, rootDevice(of)),
		"linkTypes":    each(&s.LinkTypes, linkType),
		"ddpProfiles":  each(&s.DDPProfiles, notEmpty),
		"pKeys":        each(&s.PKeys, partitionKey),
		"isRdma":       boolean(&s.RDMA),
		"vdpaType":     vdpaType(&s.VDPA),
		"auxTypes":     each(&s.AuxTypes, auxType),
		"needVhostNet": boolean(&s.VhostNet),
	}
	// A key of another type is let through where it asks for nothing, as
	// programs write it that fill in every field.
	others := fields{}
	for _, key := range slices.Collect(maps.Keys(want)) {
		if !slices.Contains(selectable[of], key) {
			others[key] = nothing(of)
			delete(want, key)
		}
	}
	if err := at.keys(raw, want, others); err != nil {
		return Selector{}, err
	}
	return s, s.check(at, of)
}

// check refuses what does not go together.
func (s *Selector) check(at place, of Type) error {
	switch {
	case s.VDPA != "" && s.RDMA:
		return at.refuse("vdpaType", s.VDPA, "leaving it out beside isRdma")
	case len(s.PKeys) > 0 && !slices.Contains(s.LinkTypes, "infiniband"):
		return at.refuse("linkTypes", s.LinkTypes, `["infiniband"], which pKeys needs`)
	case of == AuxNetDevice && len(s.AuxTypes) == 0:
		return at.refuse("auxTypes", "nothing", `["sf"]; deviceType auxNetDevice needs it`)
	}
	return nil
}

// each reads a list of strings through item.
func each[T any](into *[]T, item func(place, string) (T, error)) func(place, json.RawMessage) error {
	return func(at place, raw json.RawMessage) error {
		return at.list(raw, func(at place, raw json.RawMessage) error {
			var s string
			if err := text(&s)(at, raw); err != nil {
				return err
			}
			v, err := item(at, s)
			if err != nil {
				return err
			}
			*into = append(*into, v)
			return nil
		})
	}
}

var hexForm = regexp.MustCompile(`^[0-9A-Fa-f]{4}$`)

func hexID(at place, s string) (string, error) {
	if !hexForm.MatchString(s) {
		return "", at.refuse("", s, "a PCI id of four hexadecimal digits, without 0x")
	}
	return strings.ToLower(s), nil
}

func notEmpty(at place, s string) (string, error) {
	if s == "" {
		return "", at.refuse("", s, "a name")
	}
	return s, nil
}

func address(at place, s string) (vf.Addr, error) {
	a, err := vf.ParseAddr(s)
	if err != nil {
		return vf.Addr{}, at.refuse("", s, "a PCI address dddd:bb:dd.f, hexadecimal")
	}
	return a, nil
}

func pfName(of Type) func(place, string) (vf.Functions, error) {
	parse, form := vf.ParseFunctions, vf.FunctionsForm
	if of == AuxNetDevice {
		parse, form = vf.ParseSubfunctions, vf.SubfunctionsForm
	}
	return func(at place, s string) (vf.Functions, error) {
		f, err := parse(s)
		if err != nil {
			return vf.Functions{}, at.refuse("", s, form)
		}
		return f, nil
	}
}

func rootDevice(of Type) func(place, string) (vf.Functions, error) {
	return func(at place, s string) (vf.Functions, error) {
		f, err := pfName(of)(at, s)
		if err != nil {
			return vf.Functions{}, err
		}
		pf, err := address(at, f.PF)
		if err != nil {
			return vf.Functions{}, err
		}
		f.PF = pf.String()
		return f, nil
	}
}

func linkType(at place, s string) (string, error) {
	if s != "ether" && s != "infiniband" {
		return "", at.refuse("", s, "ether, infiniband")
	}
	return s, nil
}

func auxType(at place, s string) (string, error) {
	if s != "sf" {
		return "", at.refuse("", s, "sf")
	}
	return s, nil
}

func partitionKey(at place, s string) (uint16, error) {
	key, ok := parsePKey(s)
	if !ok {
		return 0, at.refuse("", s, "a partition key of up to four hexadecimal digits, such as 0x7fff")
	}
	return key, nil
}

// parsePKey reads the kernel's form of a partition key, with 0x or without.
func parsePKey(s string) (uint16, bool) {
	digits := strings.TrimPrefix(strings.ToLower(s), "0x")
	n, err := strconv.ParseUint(digits, 16, 16)
	return uint16(n), err == nil
}

func vdpaType(into *string) func(place, json.RawMessage) error {
	return func(at place, raw json.RawMessage) error {
		if err := text(into)(at, raw); err != nil {
			return err
		}
		if *into != "" && vdpaDrivers[*into] == "" {
			return at.refuse("", *into, "vhost, virtio")
		}
		return nil
	}
}

// vdpaDrivers are the kernel's drivers by vdpaType.
var vdpaDrivers = map[string]string{"vhost": "vhost_vdpa", "virtio": "virtio_vdpa"}

// nothing lets through the values that select nothing: false, "" and [].
func nothing(of Type) func(place, json.RawMessage) error {
	return func(at place, raw json.RawMessage) error {
		switch clip(raw).String() {
		case "false", `""`, "[]":
			return nil
		}
		return at.refuse("", clip(raw), "leaving it out with deviceType "+of.String())
	}
}

// matches reports whether the candidate satisfies all conditions of s.
func (s *Selector) matches(c *candidate) bool {
	return in(s.Vendors, c.vendor) && in(s.Devices, c.device) && in(s.Drivers, c.Driver) &&
		in(s.Addresses, c.Addr) && in(s.LinkTypes, c.linkType) && in(s.DDPProfiles, c.ddpProfile) &&
		in(s.AuxTypes, c.auxType) && in(s.ACPIIndexes, c.acpiIndex) &&
		s.byPFName(c) && s.byRootDevice(c) && s.byPKey(c) && s.byRDMA(c) && s.byVDPA(c)
}

func in[T comparable](allowed []T, v T) bool {
	return len(allowed) == 0 || slices.Contains(allowed, v)
}

// byPFName never selects a physical function: it has no PF.
func (s *Selector) byPFName(c *candidate) bool {
	return len(s.PFNames) == 0 || slices.ContainsFunc(s.PFNames, func(f vf.Functions) bool {
		named := func(name string) bool { return strings.EqualFold(name, f.PF) }
		return slices.ContainsFunc(c.pfNames, named) && f.Has(c.Index)
	})
}

func (s *Selector) byRootDevice(c *candidate) bool {
	return len(s.RootDevices) == 0 || c.PF.IsValid() && slices.ContainsFunc(s.RootDevices, func(f vf.Functions) bool {
		return f.PF == c.PF.String() && f.Has(c.Index)
	})
}

func (s *Selector) byPKey(c *candidate) bool {
	key, ok := parsePKey(c.pkey)
	return len(s.PKeys) == 0 || ok && slices.Contains(s.PKeys, key)
}

// byRDMA counts the nodes too: an RDMA device may be in a pod's namespace, and
// its device keeps its place in the pool.
func (s *Selector) byRDMA(c *candidate) bool {
	return !s.RDMA || len(c.RDMA) > 0 || len(c.Userspace.RDMA) > 0
}

func (s *Selector) byVDPA(c *candidate) bool {
	return s.VDPA == "" || c.Userspace.VDPA.Driver == vdpaDrivers[s.VDPA]
}
