package node

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tendril-cni/tendril/cni/netconf"
)

// onNode is a daemon whose runtime has files in its CNI directory.
func onNode(t *testing.T, networks netconf.Node, files map[string]string) *daemon {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if networks.ConfDir == "here" {
		networks.ConfDir = dir
	}
	return &daemon{Config: Config{CNIConfDir: dir}, networks: &networksFile{said: networks}}
}

var runtimeFiles = map[string]string{
	"00-tendril.conflist": `{"cniVersion":"1.0.0","name":"tendril","plugins":[{"type":"tendril"}]}`,
	"05-broken.conf":      `{`,
	"10-first.conflist":   `{"cniVersion":"1.0.0","name":"first","plugins":[{"type":"ptp"}]}`,
	"20-second.conf":      `{"cniVersion":"1.0.0","name":"second","type":"bridge"}`,
}

func TestDefaultNetworkOfTheNode(t *testing.T) {
	for name, c := range map[string]struct {
		networks netconf.Node
		want     string
	}{
		"discovered": {netconf.Node{}, "first"},
		"by file":    {netconf.Node{MasterFile: "20-second.conf"}, "second"},
		"written":    {netconf.Node{Delegates: []netconf.Network{{Name: "inline"}}}, "inline"},
		"ourselves":  {netconf.Node{MasterFile: "00-tendril.conflist"}, "error: plugins[0].type"},
		"missing":    {netconf.Node{MasterFile: "nowhere.conf"}, "error: nowhere.conf"},
		"elsewhere":  {netconf.Node{DiscoverDir: "/nonexistent"}, "error: /nonexistent"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := onNode(t, c.networks, runtimeFiles).defaultNetwork()
			want, failing := strings.CutPrefix(c.want, "error: ")
			switch {
			case failing && (err == nil || !strings.Contains(err.Error(), want)):
				t.Errorf("error = %v, want one about %s", err, want)
			case !failing && (err != nil || got.Name != want):
				t.Errorf("default network is %q, %v; want %q", got.Name, err, want)
			}
		})
	}
}

func TestFindNetworkOnDisk(t *testing.T) {
	d := onNode(t, netconf.Node{ConfDir: "here"}, runtimeFiles)
	for _, name := range []string{"second", filepath.Join(d.CNIConfDir, "20-second.conf")} {
		if n, err := d.find(name); err != nil || n.Name != "second" {
			t.Errorf("find %s: %q, %v", name, n.Name, err)
		}
	}
	if n, err := d.find(d.CNIConfDir); err != nil || n.Name != "first" {
		t.Errorf("find a directory: %q, %v", n.Name, err)
	}
	for _, name := range []string{"tendril", "nowhere", "/nonexistent/x.conf"} {
		if n, err := d.find(name); err == nil {
			t.Errorf("find %s: %q, want a refusal", name, n.Name)
		}
	}
}

func TestReadinessFileIsWaitedFor(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ready")
	d := onNode(t, netconf.Node{ReadinessFile: file}, nil)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if err := d.awaitReadiness(ctx); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("error = %v, want one that names the file", err)
	}
	made := make(chan error, 1)
	go func() { made <- os.WriteFile(file, nil, 0o644) }()
	if err := d.awaitReadiness(context.Background()); err != nil {
		t.Error(err)
	}
	if err := <-made; err != nil {
		t.Fatal(err)
	}
}

func TestNetworksFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "networks.json")
	if _, err := openFile(t.TempDir(), nil); err == nil || !strings.Contains(err.Error(), "--networks-config") {
		t.Errorf("error = %v, want one that names the flag", err)
	}
	for name, path := range map[string]string{"a file that is not there": path, "no file": ""} {
		if f, err := openFile(path, nil); err != nil || f.now().Isolation {
			t.Errorf("%s: %v; want the defaults", name, err)
		}
	}
	write(t, path, `{"namespaceIsolation":true}`)
	if f, err := openFile(path, nil); err != nil || !f.now().Isolation {
		t.Errorf("error %v, or no isolation", err)
	}
	write(t, path, `{"namespaceIsolation":1}`)
	if _, err := openFile(path, nil); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("error = %v, want one that names the file", err)
	}
}

func TestNetworksFileIsFollowed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "networks.json")
	var told []string
	f, err := openFile(path, &told)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		name, content string
		isolation     bool
		told          int
	}{
		{"a file comes", `{"namespaceIsolation":true}`, true, 0},
		{"it becomes bad", `{"namespaceIsolation":"no"}`, true, 1},
		{"and good", `{"namespaceIsolation":false}`, false, 1},
		{"and strict again", `{"namespaceIsolation":true}`, true, 1},
		{"it goes, and what it forbade stays forbidden", "", true, 2},
	} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		if step.content != "" {
			write(t, path, step.content)
		}
		for range 2 { // what is wrong is told once
			if got := f.now().Isolation; got != step.isolation || len(told) != step.told {
				t.Errorf("%s: isolation %t, told %q", step.name, got, told)
			}
		}
	}
	if !strings.Contains(told[0], "namespaceIsolation") || !strings.Contains(told[1], "is gone") {
		t.Errorf("people were told %q", told)
	}
}

func openFile(path string, told *[]string) (*networksFile, error) {
	return openNetworks(path, slog.New(slog.DiscardHandler), func(_, message string) { *told = append(*told, message) })
}

func write(t *testing.T, path, content string) {
	t.Helper()
	// A new file each time, as when a ConfigMap is mounted.
	if err := os.WriteFile(path+".new", []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}
