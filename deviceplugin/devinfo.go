package deviceplugin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tendril-cni/tendril/vf"
)

// deviceInfo is the device information of a PCI function (Kubernetes Network
// Plumbing Working Group, "Device Information Specification" 1.1.0).
type deviceInfo struct {
	Type    string  `json:"type"`
	Version string  `json:"version"`
	PCI     pciInfo `json:"pci"`
}

type pciInfo struct {
	Address   string  `json:"pci-address"`
	PFAddress vf.Addr `json:"pf-pci-address,omitzero"`
}

// InfoFile returns the name of d's device-info file in the directory for device
// plugins (section "Device plugin", <resourceName>-<deviceID>-device.json with
// / as -) and its content.
func (p *Pool) InfoFile(d Device) (name string, content []byte, err error) {
	content, err = json.Marshal(deviceInfo{
		Type: "pci", Version: "1.1.0",
		PCI: pciInfo{Address: d.ID, PFAddress: d.PF},
	})
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
	// known are the resources this process has served, whose files it may
	// remove.
	known map[string]bool
}

// infoSweep is how often the files are looked at without a change of pools: the
// SR-IOV network device plugin removes those of its pools when it stops, which
// in a migration is after ours were written.
const infoSweep = time.Minute

// sync writes what is missing or different and removes the files of devices
// that have left their pool. Without a directory to write to the pools are
// served all the same: the files describe devices to those who ask.
func (f *infoFiles) sync(pools []Pool, changed bool) {
	if f.dir == "" || !changed && time.Since(f.at) < infoSweep {
		return
	}
	f.at = time.Now()
	err := f.try(pools)
	if err == nil {
		f.told = ""
	} else if err.Error() != f.told {
		f.told = err.Error()
		f.log.Warn("device-info files not written", "err", err)
	}
}

func (f *infoFiles) try(pools []Pool) error {
	if err := os.MkdirAll(f.dir, 0o755); err != nil {
		return fmt.Errorf("make device-info directory: %w", err)
	}
	if f.known == nil {
		f.known = map[string]bool{}
	}
	wanted := map[string]bool{}
	for i := range pools {
		f.known[pools[i].Name()] = true
		for _, d := range pools[i].Devices {
			name, content, err := pools[i].InfoFile(d)
			if err != nil {
				return fmt.Errorf("describe device %s: %w", d.ID, err)
			}
			wanted[name] = true
			if err := f.write(name, content); err != nil {
				return fmt.Errorf("write device-info of %s: %w", d.ID, err)
			}
		}
	}
	return f.prune(wanted)
}

// write puts content in place whole: a reader sees the old file or the new one.
func (f *infoFiles) write(name string, content []byte) error {
	path := filepath.Join(f.dir, name)
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, content) {
		return nil
	}
	temp := filepath.Join(f.dir, "."+name)
	if err := os.Remove(temp); err != nil && !os.IsNotExist(err) {
		return err
	}
	if err := os.WriteFile(temp, content, 0o444); err != nil {
		return err
	}
	return os.Rename(temp, path)
}

// prune removes our files that are not wanted. The directory is shared with
// other device plugins, whose files have other names.
func (f *infoFiles) prune(wanted map[string]bool) error {
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		return fmt.Errorf("list device-info files: %w", err)
	}
	for _, entry := range entries {
		if wanted[entry.Name()] || !f.ours(entry.Name()) {
			continue
		}
		if err := os.Remove(filepath.Join(f.dir, entry.Name())); err != nil && !os.IsNotExist(err) {
			return fmt.Errorf("remove device-info file: %w", err)
		}
	}
	return nil
}

// ours reports whether name is that of a device of a resource we serve. The
// address is checked because one resource's name may begin with another's.
func (f *infoFiles) ours(name string) bool {
	for resource := range f.known {
		id, ok := strings.CutPrefix(name, infoPrefix(resource))
		if !ok {
			continue
		}
		if id, ok = strings.CutSuffix(id, infoSuffix); !ok {
			continue
		}
		if _, err := vf.ParseAddr(id); err == nil {
			return true
		}
	}
	return false
}
