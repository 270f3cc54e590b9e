package deviceinfo_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/deviceinfo"
)

// attachment is one whose plugins are told of the file called name.
func attachment(name string) cni.Attachment {
	a := cni.Attachment{Resource: "vendor.com/pool", Device: "0000:01:10.0"}
	if name != "" {
		path, _ := json.Marshal(cni.DeviceInfoDir + "/cni/" + name)
		a.RuntimeConfig = map[string]json.RawMessage{"CNIDeviceInfoFile": path}
	}
	return a
}

// root is a directory with a device plugin's file.
func root(t *testing.T, content string) string {
	dir := t.TempDir()
	path := filepath.Join(dir, "dp", "vendor.com-pool-0000:01:10.0-device.json")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if content != "" {
		if err := os.WriteFile(path, []byte(content), 0o444); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const described = `{"type":"pci","version":"1.1.0","pci":{"pci-address":"0000:01:10.0"}}`

func TestFileIsCopiedReadAndRemoved(t *testing.T) {
	dir := root(t, described)
	f, a := deviceinfo.New(dir), attachment("blue-fast-c1_net1")
	own := filepath.Join(dir, "cni", "blue-fast-c1_net1")
	for range 2 { // the second time over what a crash left
		if err := f.Prepare(a); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := f.Read(a); err != nil || string(got) != described {
		t.Errorf("read %s, %v", got, err)
	}
	if info, err := os.Stat(own); err != nil || info.Mode().Perm() != 0o444 {
		t.Errorf("mode of %s: %v, %v", own, info, err)
	}
	// The plugin completes it.
	const completed = `{"type":"vhost-user","version":"1.1.0","vhost-user":{"mode":"client","path":"/x"}}`
	if err := os.Remove(own); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(own, []byte(completed), 0o444); err != nil {
		t.Fatal(err)
	}
	if got, err := f.Read(a); err != nil || string(got) != completed {
		t.Errorf("read %s, %v", got, err)
	}
	for range 2 {
		if err := f.Remove(a); err != nil {
			t.Fatal(err)
		}
	}
	if left, _ := os.ReadDir(filepath.Join(dir, "cni")); len(left) != 0 {
		t.Errorf("left over: %v", left)
	}
}

func TestWithoutADevicePluginsFile(t *testing.T) {
	f, a := deviceinfo.New(root(t, "")), attachment("x")
	if err := f.Prepare(a); err != nil {
		t.Error(err)
	}
	if got, err := f.Read(a); got != nil || err != nil {
		t.Errorf("read %s, %v, want nothing", got, err)
	}
	if err := f.Remove(a); err != nil {
		t.Error(err)
	}
}

func TestWithoutAFileOfItsOwn(t *testing.T) {
	if got, err := deviceinfo.New(root(t, described)).Read(attachment("")); string(got) != described || err != nil {
		t.Errorf("read %s, %v, want the device plugin's", got, err)
	}
}

func TestInvariant9BadFiles(t *testing.T) {
	for _, content := range []string{"[]", "{", "null", `{"x":"` + strings.Repeat("y", 20000) + `"}`} {
		if _, err := deviceinfo.New(root(t, content)).Read(attachment("")); err == nil || !strings.Contains(err.Error(), "JSON object") {
			t.Errorf("%.20s: error = %v", content, err)
		}
	}
	for _, name := range []string{"", "..", "a/../../b", "a/b"} {
		a := attachment("x")
		a.RuntimeConfig["CNIDeviceInfoFile"], _ = json.Marshal(cni.DeviceInfoDir + "/cni/" + name)
		if err := deviceinfo.New(root(t, described)).Prepare(a); err == nil {
			t.Errorf("file %q: accepted", name)
		}
	}
}
