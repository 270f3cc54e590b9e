package takeover

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/tendril-cni/tendril/cni"
)

// Forget removes the files of a sandbox that was detached, so that it is neither
// taken over again nor detached a second time after the way back. Absent is done.
// ifNames are the interfaces that it had.
func Forget(d Dirs, container string, ifNames []string) error {
	if !idForm.MatchString(container) {
		return nil
	}
	errs := []error{remove(filepath.Join(d.Multus, container))}
	files, err := os.ReadDir(filepath.Join(d.Multus, "results"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, err)
	}
	for _, f := range files {
		if strings.Contains(f.Name(), "-"+container+"-") {
			errs = append(errs, remove(filepath.Join(d.Multus, "results", f.Name())))
		}
	}
	for _, name := range ifNames {
		if filepath.Base(name) == name {
			errs = append(errs, remove(filepath.Join(d.Sriov, container+"-"+name)))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("forget container %s of Multus: %w", container, err)
	}
	return nil
}

// Release removes sriov-cni's note of who has the VF, if it still is the
// attachment's: sriov-cni would otherwise refuse the VF after the way back.
func Release(d Dirs, a cni.Attachment) error {
	if a.Kind != cni.KindSriov || a.Device == "" || filepath.Base(a.Device) != a.Device {
		return nil
	}
	path := filepath.Join(d.Sriov, "pci", a.Device)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && strings.TrimSpace(string(data)) != a.Netns.Path {
		return nil
	}
	if err != nil {
		return fmt.Errorf("release VF %s of sriov-cni: %w", a.Device, err)
	}
	return remove(path)
}

func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
