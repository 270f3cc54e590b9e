package deviceinfo

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/refusal"
)

// mostBytes bounds a file: it becomes part of an annotation, of which a pod has
// 256 KiB (apimachinery, TotalAnnotationSizeLimitB).
const mostBytes = 16 << 10

// Files implements cni.DeviceInfo. Use New.
type Files struct{ root string }

var _ cni.DeviceInfo = Files{}

// New returns the files below root, which stands for cni.DeviceInfoDir.
func New(root string) Files { return Files{root} }

// Prepare implements cni.DeviceInfo. The file is readable for everyone and
// writable for none, as Multus leaves it. One that a crash left is replaced.
func (f Files) Prepare(a cni.Attachment) error {
	path, err := f.own(a)
	if err != nil {
		return err
	}
	data, err := read(f.plugins(a))
	if err != nil || data == nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("make device-info directory: %w", err)
	}
	part := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new")
	err = absent(os.Remove(part)) // what a crash left
	if err == nil {
		err = os.WriteFile(part, data, 0o444)
	}
	if err == nil {
		err = os.Rename(part, path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write device-info of %s: %w", a.Device, err), absent(os.Remove(part)))
	}
	return nil
}

// Read implements cni.DeviceInfo.
func (f Files) Read(a cni.Attachment) (json.RawMessage, error) {
	if a.InfoFile() != "" {
		path, err := f.own(a)
		if err != nil {
			return nil, err
		}
		if data, err := read(path); data != nil || err != nil {
			return data, err
		}
	}
	return read(f.plugins(a))
}

// Remove implements cni.DeviceInfo.
func (f Files) Remove(a cni.Attachment) error {
	path, err := f.own(a)
	if err != nil {
		return err
	}
	if err := absent(os.Remove(path)); err != nil {
		return fmt.Errorf("remove device-info of %s: %w", a.Device, err)
	}
	return nil
}

// own is the attachment's file below the root.
func (f Files) own(a cni.Attachment) (string, error) {
	rest, ok := strings.CutPrefix(a.InfoFile(), cni.DeviceInfoDir+"/cni/")
	if !ok || rest != filepath.Base(rest) || rest == "." || rest == ".." {
		return "", refusal.New("attachment of pod "+a.Pod.String(), "runtimeConfig.CNIDeviceInfoFile", a.InfoFile(), "a file in "+cni.DeviceInfoDir+"/cni")
	}
	return filepath.Join(f.root, "cni", rest), nil
}

// plugins is the file that the device plugin writes (section "Device plugin").
func (f Files) plugins(a cni.Attachment) string {
	name := strings.ReplaceAll(a.Resource+"-"+a.Device, "/", "-") + "-device.json"
	return filepath.Join(f.root, "dp", name)
}

// read returns the file's content if it is one JSON object, nil if it is absent.
func read(path string) (json.RawMessage, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, absent(err)
	}
	var object map[string]json.RawMessage
	if len(data) > mostBytes || json.Unmarshal(data, &object) != nil || object == nil {
		return nil, refusal.New(path, "", fmt.Sprintf("%.60s", data), fmt.Sprintf("a JSON object of at most %d bytes", mostBytes))
	}
	return data, nil
}

// absent makes success of "does not exist".
func absent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
