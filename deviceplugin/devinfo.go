package deviceplugin

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/tendril-cni/tendril/vf"
)

// deviceInfo is the device information of a PCI function or of its vDPA device
// (Kubernetes Network Plumbing Working Group, "Device Information Specification"
// 1.1.0).
type deviceInfo struct {
	Type    string    `json:"type"`
	Version string    `json:"version"`
	PCI     *pciInfo  `json:"pci,omitempty"`
	VDPA    *vdpaInfo `json:"vdpa,omitempty"`
}

type pciInfo struct {
	Address   string  `json:"pci-address"`
	RDMA      string  `json:"rdma-device,omitempty"`
	PFAddress vf.Addr `json:"pf-pci-address,omitzero"`
}

type vdpaInfo struct {
	Parent  string `json:"parent-device,omitempty"`
	Driver  string `json:"driver,omitempty"`
	Path    string `json:"path,omitempty"`
	Address string `json:"pci-address,omitempty"`
}

// InfoFile returns the name of d's device-info file in the directory for device
// plugins (section "Device plugin", <resourceName>-<deviceID>-device.json with
// / as -) and its content. The specification has no form for accelerators and
// auxiliary devices; callers pass devices of a NetDevice resource.
func (p *Pool) InfoFile(d Device) (name string, content []byte, err error) {
	about := deviceInfo{Type: "pci", Version: "1.1.0"}
	if d.VDPA != "" {
		about.Type = "vdpa"
		about.VDPA = &vdpaInfo{Parent: d.Userspace.VDPA.Name, Driver: d.VDPA, Address: d.ID}
		if d.VDPA == "vhost" && d.Userspace.VDPA.Node != "" {
			about.VDPA.Path = "/dev/" + d.Userspace.VDPA.Node
		}
	} else {
		about.PCI = &pciInfo{Address: d.ID, PFAddress: d.PF}
		if d.WithRDMA {
			about.PCI.RDMA = strings.Join(d.RDMA, ",")
		}
	}
	content, err = json.Marshal(about)
	return infoPrefix(p.Name()) + d.ID + infoSuffix, content, err
}

func infoPrefix(resource string) string { return strings.ReplaceAll(resource, "/", "-") + "-" }

const infoSuffix = "-device.json"

// infoFiles keeps one file for each device of each pool. The files follow from
// the pools and stay when the plugin stops: pods outlive it, and a restart must
// not take from them what describes their devices.
type infoFiles struct {
	dir string
	log *slog.Logger
	// told is the last failure, so that it is logged once.
	told string
	// at is when the files were last looked at.
	at time.Time
	// inUse reports whether somebody may have the device. Its file stays then,
	// even when its pool has gone.
	inUse func(id string) bool
	// known are the resources that this program has served, whose files it may
	// remove; nil before the first look at what an earlier process has noted.
	known map[string]bool
}

// infoLedger is where the resources are noted, in the same directory. No reader
// of device-info files looks for such a name.
const infoLedger = ".tendril-resources.json"

// infoSweep is how often the files are looked at without a change of pools: the
// SR-IOV network device plugin removes those of its pools when it stops, which
// in a migration is after ours were written.
const infoSweep = time.Minute

// write writes what is missing or different, and returns what removes the files of
// devices that have left their pool. Without a directory to write to the pools are
// served all the same: the files describe devices to those who ask.
func (f *infoFiles) write(pools []Pool, changed bool) (prune func()) {
	if f.dir == "" || !changed && time.Since(f.at) < infoSweep {
		return func() {}
	}
	f.at = time.Now()
	wanted, err := f.try(pools)
	return func() {
		if err == nil {
			err = f.prune(wanted)
		}
		if err == nil {
			f.told = ""
		} else if err.Error() != f.told {
			f.told = err.Error()
			f.log.Warn("device-info files not written", "error", err)
		}
	}
}

func (f *infoFiles) try(pools []Pool) (wanted map[string]bool, err error) {
	if err := os.MkdirAll(f.dir, 0o755); err != nil {
		return nil, fmt.Errorf("make device-info directory: %w", err)
	}
	if err := f.note(pools); err != nil {
		return nil, err
	}
	wanted = map[string]bool{}
	for i := range pools {
		if pools[i].Resource.Type != NetDevice {
			continue
		}
		for _, d := range pools[i].Devices {
			name, content, err := pools[i].InfoFile(d)
			if err != nil {
				return nil, fmt.Errorf("describe device %s: %w", d.ID, err)
			}
			wanted[name] = true
			if err := replaceFile(f.dir, name, content); err != nil {
				return nil, fmt.Errorf("write device-info of %s: %w", d.ID, err)
			}
		}
	}
	return wanted, nil
}

// note adds the pools to the ledger before they have files.
func (f *infoFiles) note(pools []Pool) error {
	if f.known == nil {
		if err := f.recall(); err != nil {
			f.log.Warn("ledger of device-info files is unreadable; files of resources that are gone stay", "path", infoLedger, "error", err)
		}
	}
	for i := range pools {
		f.known[pools[i].Name()] = true
	}
	return f.save()
}

// recall reads the ledger; none is an empty one.
func (f *infoFiles) recall() error {
	f.known = map[string]bool{}
	data, err := os.ReadFile(filepath.Join(f.dir, infoLedger))
	if err != nil {
		return nil
	}
	var names []string
	if err := json.Unmarshal(data, &names); err != nil {
		return fmt.Errorf("read ledger of device-info files: %w", err)
	}
	for _, name := range names {
		f.known[name] = true
	}
	return nil
}

func (f *infoFiles) save() error {
	data, err := json.Marshal(slices.Sorted(maps.Keys(f.known)))
	if err != nil {
		return fmt.Errorf("note resources with device-info files: %w", err)
	}
	if err := replaceFile(f.dir, infoLedger, data); err != nil {
		return fmt.Errorf("note resources with device-info files: %w", err)
	}
	return nil
}

// prune removes our files that are not wanted, but for those of devices in use.
// The directory is shared with other device plugins, whose files have other
// names.
func (f *infoFiles) prune(wanted map[string]bool) error {
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		return fmt.Errorf("list device-info files: %w", err)
	}
	for _, entry := range entries {
		id, ours := f.ours(entry.Name())
		if wanted[entry.Name()] || !ours || f.inUse(id) {
			continue
		}
		if err := os.Remove(filepath.Join(f.dir, entry.Name())); err != nil && !os.IsNotExist(err) {
			return fmt.Errorf("remove device-info file: %w", err)
		}
	}
	return nil
}

// ours returns the device whose file of a resource of ours has that name. The
// address is checked because one resource's name may begin with another's.
func (f *infoFiles) ours(name string) (id string, ok bool) {
	for resource := range f.known {
		id, ok := strings.CutPrefix(name, infoPrefix(resource))
		if !ok {
			continue
		}
		if id, ok = strings.CutSuffix(id, infoSuffix); !ok {
			continue
		}
		if _, err := vf.ParseAddr(id); err == nil {
			return id, true
		}
	}
	return "", false
}
