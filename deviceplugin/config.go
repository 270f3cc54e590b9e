package deviceplugin

import (
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/tendril-cni/tendril/vf"
)

// Config is a parsed config.json: resources in file order, which is the order
// in which they claim devices.
type Config struct {
	Resources []Resource
}

// Resource is one entry of resourceList, defaults applied.
type Resource struct {
	// Prefix and Name make the extended resource "prefix/name".
	Prefix, Name string
	// ExcludeTopology leaves the NUMA node out of what the kubelet is told.
	ExcludeTopology bool
	// Selectors are tried in order; there is at least one.
	Selectors []Selector
	// AdditionalInfo is copied into the _INFO variable, by device id (a PCI
	// address in sysfs form) or "*" for all; a device's own keys win.
	AdditionalInfo map[string]map[string]string
}

// String returns "prefix/name".
func (r Resource) String() string { return r.Prefix + "/" + r.Name }

// Selector is a conjunction: a device matches when it satisfies every list that
// is not empty. The zero Selector matches all devices.
type Selector struct {
	// Vendors and Devices are PCI ids of four lower-case hex digits.
	Vendors, Devices []string
	// Drivers are names of bound kernel drivers.
	Drivers []string
	// Addresses are the devices' own PCI addresses.
	Addresses []vf.Addr
	// PFNames select VFs by a name or altname of their PF's network device.
	PFNames []Functions
	// RootDevices select VFs by the PCI address of their PF.
	RootDevices []Functions
	// LinkTypes are "ether" or "infiniband".
	LinkTypes []string
	// VhostNet is no condition: devices matched by this selector come with
	// /dev/vhost-net and /dev/net/tun, where the host has them.
	VhostNet bool
}

// Parse reads the config.json of the SR-IOV network device plugin (its
// documentation, "Configurations"). file names r in refusals; defaultPrefix is
// used by resources without resourcePrefix. Keys are matched without regard to
// case, as Go programs have always read this file; unknown and repeated keys
// are refused. An empty or absent resourceList is a configuration without pools.
//
// Every error is a *refusal.Refusal, or one from reading r.
func Parse(r io.Reader, file, defaultPrefix string) (Config, error) {
	data, err := io.ReadAll(r)
	if err != nil {
		return Config{}, fmt.Errorf("read %s: %w", file, err)
	}
	at := place{object: fmt.Sprintf("file %q", file)}
	if err := at.syntax(data); err != nil {
		return Config{}, err
	}
	var cfg Config
	err = at.keys(data, fields{
		"resourceList": func(at place, raw json.RawMessage) (err error) {
			cfg.Resources, err = parseResources(at, raw, defaultPrefix)
			return err
		},
	})
	if err != nil {
		return Config{}, err
	}
	return cfg, nil
}

func parseResources(at place, raw json.RawMessage, prefix string) ([]Resource, error) {
	var list []Resource
	named := map[string]int{}
	err := at.list(raw, func(at place, raw json.RawMessage) error {
		at.object += resourceLabel(raw, prefix)
		res, err := parseResource(at, raw, prefix)
		if err != nil {
			return err
		}
		if i, dup := named[res.String()]; dup {
			return at.in("resourceName").refuse("", res.String(),
				fmt.Sprintf("a name used once; resourceList[%d] has it already", i))
		}
		named[res.String()] = len(list)
		list = append(list, res)
		return nil
	})
	return list, err
}

// resourceLabel finds the name for error messages before anything is checked.
func resourceLabel(raw json.RawMessage, prefix string) string {
	var r struct {
		ResourceName   string `json:"resourceName"`
		ResourcePrefix string `json:"resourcePrefix"`
	}
	// An entry that does not decode has no name to show; the check that
	// follows says what is wrong with it.
	_ = json.Unmarshal(raw, &r)
	if r.ResourceName == "" {
		return ""
	}
	if r.ResourcePrefix != "" {
		prefix = r.ResourcePrefix
	}
	return fmt.Sprintf(" resource %q", prefix+"/"+r.ResourceName)
}

func parseResource(at place, raw json.RawMessage, prefix string) (Resource, error) {
	res := Resource{Prefix: prefix}
	kind := "netDevice"
	err := at.keys(raw, fields{
		"resourceName":    text(&res.Name),
		"resourcePrefix":  text(&res.Prefix),
		"deviceType":      text(&kind),
		"excludeTopology": boolean(&res.ExcludeTopology),
		"additionalInfo": func(at place, raw json.RawMessage) (err error) {
			res.AdditionalInfo, err = parseInfo(at, raw)
			return err
		},
		"selectors": func(at place, raw json.RawMessage) (err error) {
			res.Selectors, err = parseSelectors(at, raw)
			return err
		},
		// Two internal fields of the upstream programs that the SR-IOV
		// operator writes out, always as null.
		"SelectorObj":  onlyNull,
		"SelectorObjs": onlyNull,
	})
	if err != nil {
		return Resource{}, err
	}
	if err := checkKind(at, kind); err != nil {
		return Resource{}, err
	}
	if err := checkName(at, res); err != nil {
		return Resource{}, err
	}
	if len(res.Selectors) == 0 {
		return Resource{}, at.refuse("selectors", "nothing", "an object or a list of at least one object; {} selects every device")
	}
	return res, nil
}

func checkKind(at place, kind string) error {
	switch kind {
	case "netDevice":
		return nil
	case "accelerator", "auxNetDevice":
		return at.refuse("deviceType", kind, "netDevice; accelerator and auxNetDevice are not there yet")
	}
	return at.refuse("deviceType", kind, "netDevice, accelerator, auxNetDevice")
}

// The kubelet refuses what is not an extended resource name (Kubernetes
// documentation, "Extended resources"); saying so here names the line that has
// to change.
var (
	nameForm   = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?$`)
	prefixForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$`)
)

// maxPrefix leaves room for the "requests." that Kubernetes puts before the
// name in quotas, within the 253 characters of a DNS name.
const maxPrefix = 253 - len("requests.")

func checkName(at place, res Resource) error {
	if !nameForm.MatchString(res.Name) {
		return at.refuse("resourceName", res.Name, "1 to 63 letters, digits, - and _, a letter or digit at both ends")
	}
	if !prefixForm.MatchString(res.Prefix) || len(res.Prefix) > maxPrefix || strings.HasPrefix(res.Prefix, "requests.") {
		return at.refuse("resourcePrefix", res.Prefix,
			fmt.Sprintf("a lower-case DNS name of at most %d characters, not beginning with requests.", maxPrefix))
	}
	if strings.HasSuffix(res.Prefix, "kubernetes.io") {
		return at.refuse("resourcePrefix", res.Prefix, "a name outside kubernetes.io, which the kubelet keeps for itself")
	}
	return nil
}

func parseInfo(at place, raw json.RawMessage) (map[string]map[string]string, error) {
	info := map[string]map[string]string{}
	err := at.members(raw, func(at place, key string, raw json.RawMessage) error {
		if key != "*" {
			addr, err := vf.ParseAddr(key)
			if err != nil {
				return at.refuse("", key, "* or the PCI address of a device, dddd:bb:dd.f")
			}
			key = addr.String()
		}
		if info[key] != nil {
			return at.refuse("", key, "every device once")
		}
		values := map[string]string{}
		info[key] = values
		return at.members(raw, func(at place, name string, raw json.RawMessage) error {
			if _, dup := values[name]; dup {
				return at.refuse("", clip(raw), "every key once")
			}
			var v string
			err := text(&v)(at, raw)
			values[name] = v
			return err
		})
	})
	return info, err
}
