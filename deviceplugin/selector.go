package deviceplugin

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"

	"github.com/tendril-cni/tendril/vf"
)

// parseSelectors reads one selector object or a list of them.
func parseSelectors(at place, raw json.RawMessage) ([]Selector, error) {
	if kind(raw) == '{' {
		s, err := parseSelector(at, raw)
		return []Selector{s}, err
	}
	if kind(raw) != '[' {
		return nil, at.refuse("", clip(raw), "an object or a list of objects")
	}
	var list []Selector
	err := at.list(raw, func(at place, raw json.RawMessage) error {
		s, err := parseSelector(at, raw)
		list = append(list, s)
		return err
	})
	return list, err
}

func parseSelector(at place, raw json.RawMessage) (Selector, error) {
	var s Selector
	err := at.keys(raw, fields{
		"vendors":      each(&s.Vendors, hexID),
		"devices":      each(&s.Devices, hexID),
		"drivers":      each(&s.Drivers, notEmpty),
		"pciAddresses": each(&s.Addresses, address),
		"pfNames":      each(&s.PFNames, pfName),
		"rootDevices":  each(&s.RootDevices, rootDevice),
		"linkTypes":    each(&s.LinkTypes, linkType),
		"needVhostNet": boolean(&s.VhostNet),
		"isRdma":       notYet,
		"acpiIndexes":  notYet,
		"ddpProfiles":  notYet,
		"pKeys":        notYet,
		"vdpaType":     notYet,
		"auxTypes":     auxOnly,
	})
	return s, err
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
		return vf.Addr{}, at.refuse("", s, addressForm)
	}
	return a, nil
}

func pfName(at place, s string) (Functions, error) {
	f, err := ParseFunctions(s)
	if err != nil {
		return Functions{}, at.refuse("", s, functionsForm)
	}
	return f, nil
}

func rootDevice(at place, s string) (Functions, error) {
	f, err := pfName(at, s)
	if err != nil {
		return Functions{}, err
	}
	pf, err := address(at, f.PF)
	if err != nil {
		return Functions{}, err
	}
	f.PF = pf.String()
	return f, nil
}

func linkType(at place, s string) (string, error) {
	if s != "ether" && s != "infiniband" {
		return "", at.refuse("", s, "ether, infiniband")
	}
	return s, nil
}

// notYet lets through the values that select nothing: false, "" and [].
func notYet(at place, raw json.RawMessage) error {
	switch clip(raw).String() {
	case "false", `""`, "[]":
		return nil
	}
	return at.refuse("", clip(raw), "leaving it out; this selector is not there yet")
}

func auxOnly(at place, raw json.RawMessage) error {
	if clip(raw).String() == "[]" {
		return nil
	}
	return at.refuse("", clip(raw), "leaving it out, except with deviceType auxNetDevice")
}

// matches reports whether the candidate satisfies all conditions of s.
func (s *Selector) matches(c *candidate) bool {
	return in(s.Vendors, c.vendor) && in(s.Devices, c.device) && in(s.Drivers, c.Driver) &&
		in(s.Addresses, c.Addr) && in(s.LinkTypes, c.linkType) &&
		s.byPFName(c) && s.byRootDevice(c)
}

func in[T comparable](allowed []T, v T) bool {
	return len(allowed) == 0 || slices.Contains(allowed, v)
}

// byPFName never selects a physical function: it has no PF.
func (s *Selector) byPFName(c *candidate) bool {
	return len(s.PFNames) == 0 || slices.ContainsFunc(s.PFNames, func(f Functions) bool {
		named := func(name string) bool { return strings.EqualFold(name, f.PF) }
		return slices.ContainsFunc(c.pfNames, named) && f.Has(c.Index)
	})
}

func (s *Selector) byRootDevice(c *candidate) bool {
	return len(s.RootDevices) == 0 || c.PF.IsValid() && slices.ContainsFunc(s.RootDevices, func(f Functions) bool {
		return f.PF == c.PF.String() && f.Has(c.Index)
	})
}
