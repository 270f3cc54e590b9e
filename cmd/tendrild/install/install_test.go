package install_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/tendril-cni/tendril/cmd/tendrild/install"
)

func TestShimIsReplacedWholeAndOnlyWhenItDiffers(t *testing.T) {
	dir := t.TempDir()
	source, bin := filepath.Join(dir, "tendril"), filepath.Join(dir, "opt", "bin")
	for i, step := range []struct {
		content string
		changed bool
	}{{"one", true}, {"one", false}, {"two", true}} {
		if err := os.WriteFile(source, []byte(step.content), 0o644); err != nil {
			t.Fatal(err)
		}
		changed, err := install.Shim(source, bin)
		if err != nil || changed != step.changed {
			t.Fatalf("step %d: changed=%v err=%v, want changed=%v", i, changed, err, step.changed)
		}
		got, err := os.ReadFile(filepath.Join(bin, "tendril"))
		if err != nil || string(got) != step.content {
			t.Fatalf("step %d: installed %q (%v), want %q", i, got, err, step.content)
		}
	}
	info, err := os.Stat(filepath.Join(bin, "tendril"))
	if err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("mode %v (%v), want 0755", info.Mode(), err)
	}
	if left, _ := os.ReadDir(bin); len(left) != 1 {
		t.Errorf("%d files in the binary directory, want the shim alone", len(left))
	}
}

func TestMissingShimLeavesTheOldOne(t *testing.T) {
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "tendril"), []byte("old"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := install.Shim(filepath.Join(bin, "absent"), bin); err == nil {
		t.Fatal("no error for a shim that is not there")
	}
	if got, _ := os.ReadFile(filepath.Join(bin, "tendril")); string(got) != "old" {
		t.Errorf("the installed shim became %q", got)
	}
}

var settings = install.Settings{Socket: "/run/x/tendril.sock", Spool: "/var/lib/x/spool"}

func TestConfNamesShimAndSocket(t *testing.T) {
	dir := t.TempDir()
	if changed, err := install.Conf(dir, settings); err != nil || !changed {
		t.Fatalf("changed=%v err=%v", changed, err)
	}
	data, err := os.ReadFile(filepath.Join(dir, install.ConfName))
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		CNIVersion string
		Plugins    []struct{ Type, Socket, Spool string }
	}
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Plugins) != 1 || got.Plugins[0].Type != install.ShimName || got.Plugins[0].Socket != settings.Socket || got.Plugins[0].Spool != settings.Spool {
		t.Errorf("configuration is %s", data)
	}
	if !install.Own(install.ConfName) || install.Own("10-calico.conflist") {
		t.Error("Own does not tell our file from others")
	}
	if changed, err := install.Conf(dir, settings); err != nil || changed {
		t.Errorf("an equal configuration was written again: changed=%v err=%v", changed, err)
	}
}
