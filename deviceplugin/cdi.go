package deviceplugin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"tags.cncf.io/container-device-interface/specs-go"
)

// cdiKind is the kind of our devices in CDI: one for all pools, because the names
// carry the resource. One kind in one file, which is replaced whole, means that
// the runtime never meets a device that is defined twice.
const (
	cdiKind = "tendril.dev/net"
	cdiFile = "tendril.dev-net.json"
)

// cdiName is the name of a pool's device in CDI. It has the resource in it: a
// container that is started again gets what it got the first time, even when its
// device has moved to a pool that gives other nodes.
func (p *Pool) cdiName(d Device) string {
	return p.Resource.Prefix + "_" + p.Resource.Name + "_" + d.ID
}

// cdiDevice describes d for the runtime; ok is false for one without nodes, which
// CDI has no form for.
func (p *Pool) cdiDevice(d Device) (dev specs.Device, ok bool) {
	_, nodes := p.describe(d)
	dev.Name = p.cdiName(d)
	for _, n := range nodes {
		dev.ContainerEdits.DeviceNodes = append(dev.ContainerEdits.DeviceNodes,
			&specs.DeviceNode{Path: n.Container, HostPath: n.Host, Permissions: n.Access})
	}
	return dev, len(nodes) > 0
}

// cdiSpec keeps the CDI specification (Container Device Interface, SPEC.md) of
// all pools. It stays when the plugin stops: containers outlive it, and one that
// is started again is resolved anew. It belongs to Run's goroutine.
type cdiSpec struct {
	// dir is one of the runtime's, /var/run/cdi; empty for no CDI.
	dir string
	log *slog.Logger
	// inUse reports whether somebody may have the device.
	inUse func(id string) bool
	told  string
}

// sync writes the specification of pools and reports whether the runtime can rely
// on it. Where it cannot be written, containers get nodes instead.
func (c *cdiSpec) sync(pools []Pool) bool {
	if c.dir == "" {
		return false
	}
	err := c.try(pools)
	if err == nil {
		c.told = ""
		return true
	}
	if err.Error() != c.told {
		c.told = err.Error()
		c.log.Warn("CDI specification not written, containers get device nodes instead", "error", err)
	}
	return false
}

func (c *cdiSpec) try(pools []Pool) error {
	spec := specs.Spec{Kind: cdiKind}
	for i := range pools {
		for _, d := range pools[i].Devices {
			if dev, ok := pools[i].cdiDevice(d); ok {
				spec.Devices = append(spec.Devices, dev)
			}
		}
	}
	spec.Devices = append(spec.Devices, c.kept(spec.Devices)...)
	if len(spec.Devices) == 0 {
		err := os.Remove(filepath.Join(c.dir, cdiFile))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove CDI specification: %w", err)
		}
		return nil
	}
	slices.SortFunc(spec.Devices, func(a, b specs.Device) int { return strings.Compare(a.Name, b.Name) })
	return c.write(spec)
}

func (c *cdiSpec) write(spec specs.Spec) (err error) {
	// The oldest version that has what is used, for runtimes of any age.
	if spec.Version, err = specs.MinimumRequiredVersion(&spec); err != nil {
		return fmt.Errorf("describe devices for CDI: %w", err)
	}
	data, err := json.Marshal(spec)
	if err != nil {
		return fmt.Errorf("describe devices for CDI: %w", err)
	}
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return fmt.Errorf("make CDI directory: %w", err)
	}
	if err := replaceFile(c.dir, cdiFile, data); err != nil {
		return fmt.Errorf("write CDI specification: %w", err)
	}
	return nil
}

// kept returns the devices of the present file that are not among wanted but may
// be in use, by whichever process wrote them.
func (c *cdiSpec) kept(wanted []specs.Device) []specs.Device {
	var old specs.Spec
	data, err := os.ReadFile(filepath.Join(c.dir, cdiFile))
	if err != nil || json.Unmarshal(data, &old) != nil || old.Kind != cdiKind {
		return nil // nothing there, or nothing that a runtime could have used
	}
	names := make(map[string]bool, len(wanted))
	for _, d := range wanted {
		names[d.Name] = true
	}
	return slices.DeleteFunc(old.Devices, func(d specs.Device) bool { return names[d.Name] || !c.named(d.Name) })
}

// named reports whether a name ends in the id of a device in use. Both parts of
// it may have a _ of their own.
func (c *cdiSpec) named(name string) bool {
	for i, r := range name {
		if r == '_' && c.inUse(name[i+1:]) {
			return true
		}
	}
	return false
}
