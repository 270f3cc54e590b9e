package deviceplugin

import (
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
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
	// Type is the kind of devices that it takes.
	Type Type
	// ExcludeTopology leaves the NUMA node out of what the kubelet is told.
	ExcludeTopology bool
	// Policy is how GetPreferredAllocation spends the devices.
	Policy Policy
	// Selectors are tried in order; there is at least one.
	Selectors []Selector
	// AdditionalInfo is copied into the _INFO variable, by device id (a PCI
	// address in sysfs form, the name of an auxiliary device) or "*" for all; a
	// device's own keys win. For an auxiliary device the address of its parent
	// counts too, between the two.
	AdditionalInfo map[string]map[string]string
}

// Type is the kind of devices in a resource (deviceType).
type Type int

// NetDevice are PCI network functions (class 02), Accelerator PCI processing
// accelerators (class 12), AuxNetDevice subfunctions on the auxiliary bus.
const (
	NetDevice Type = iota
	Accelerator
	AuxNetDevice
)

var typeNames = []string{"netDevice", "accelerator", "auxNetDevice"}

// String returns the name that config.json has for t.
func (t Type) String() string { return typeNames[t] }

// Policy is how free devices are chosen where the NUMA node leaves a choice
// (allocationPolicy; the SR-IOV network device plugin has no such field and
// leaves it unread).
type Policy int

// Pack uses up one PF before the next, so that whole PFs stay free for large
// requests. Spread takes from the PF with the most free devices, so that pods
// share no link that they need not share.
const (
	Pack Policy = iota
	Spread
)

var policyNames = []string{"pack", "spread"}

// String returns the name that config.json has for p.
func (p Policy) String() string { return policyNames[p] }

// String returns "prefix/name".
func (r Resource) String() string { return r.Prefix + "/" + r.Name }

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
	}, nil)
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
	// What depends on the device type is read after it, wherever it stands.
	var selectors, info *later
	err := at.keys(raw, fields{
		"resourceName":     text(&res.Name),
		"resourcePrefix":   filled(text(&res.Prefix)),
		"deviceType":       filled(oneOf(&res.Type, typeNames)),
		"excludeTopology":  boolean(&res.ExcludeTopology),
		"allocationPolicy": oneOf(&res.Policy, policyNames),
		"selectors":        put(&selectors),
		"additionalInfo":   put(&info),
	}, fields{
		// Two internal fields of the upstream programs that the SR-IOV
		// operator writes out, always as null.
		"SelectorObj":  onlyNull,
		"SelectorObjs": onlyNull,
	})
	if err != nil {
		return Resource{}, err
	}
	if err := checkName(at, res); err != nil {
		return Resource{}, err
	}
	if info != nil {
		if res.AdditionalInfo, err = parseInfo(info.at, info.raw, res.Type); err != nil {
			return Resource{}, err
		}
	}
	if selectors != nil {
		if res.Selectors, err = parseSelectors(selectors.at, selectors.raw, res.Type); err != nil {
			return Resource{}, err
		}
	}
	if len(res.Selectors) == 0 {
		return Resource{}, at.refuse("selectors", "nothing", "an object or a list of at least one object; {} selects every device")
	}
	return res, nil
}

// later is a value that is read when the rest of its object is known.
type later struct {
	at  place
	raw json.RawMessage
}

func put(into **later) func(place, json.RawMessage) error {
	return func(at place, raw json.RawMessage) error {
		*into = &later{at: at, raw: raw}
		return nil
	}
}

// filled passes the empty text over, which has always been as good as absent here.
func filled(read func(place, json.RawMessage) error) func(place, json.RawMessage) error {
	return func(at place, raw json.RawMessage) error {
		if string(raw) == `""` {
			return nil
		}
		return read(at, raw)
	}
}

// oneOf reads one of names as its position.
func oneOf[T ~int](into *T, names []string) func(place, json.RawMessage) error {
	return func(at place, raw json.RawMessage) error {
		var s string
		if err := text(&s)(at, raw); err != nil {
			return err
		}
		i := slices.Index(names, s)
		if i < 0 {
			return at.refuse("", s, strings.Join(names, ", "))
		}
		*into = T(i)
		return nil
	}
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

// auxForm is the name of a device on the auxiliary bus.
var auxForm = regexp.MustCompile(`^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[0-9]+$`)

// infoKey is a key of additionalInfo in the form of a device id.
func infoKey(at place, key string, kind Type) (string, error) {
	if key == "*" || kind == AuxNetDevice && auxForm.MatchString(key) {
		return key, nil
	}
	addr, err := vf.ParseAddr(key)
	switch {
	case err == nil:
		return addr.String(), nil
	case kind == AuxNetDevice:
		return "", at.refuse("", key, "*, the name of a device (mlx5_core.sf.4), or the PCI address of its parent, dddd:bb:dd.f")
	}
	return "", at.refuse("", key, "* or the PCI address of a device, dddd:bb:dd.f")
}

func parseInfo(at place, raw json.RawMessage, kind Type) (map[string]map[string]string, error) {
	info := map[string]map[string]string{}
	err := at.members(raw, func(at place, key string, raw json.RawMessage) error {
		key, err := infoKey(at, key, kind)
		if err != nil {
			return err
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
