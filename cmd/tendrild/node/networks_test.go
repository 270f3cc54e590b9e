package node

import (
	"context"
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
	return &daemon{Config: Config{CNIConfDir: dir}, networks: networks}
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
	if _, err := readNetworks(t.TempDir(), slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "--networks-config") {
		t.Errorf("error = %v, want one that names the flag", err)
	}
	if n, err := readNetworks(filepath.Join(t.TempDir(), "networks.json"), slog.New(slog.DiscardHandler)); err != nil || n.Isolation {
		t.Errorf("a file that is not there: %+v, %v; want the defaults", n, err)
	}
	if n, err := readNetworks("", slog.New(slog.DiscardHandler)); err != nil || n.Isolation {
		t.Errorf("no file: %+v, %v", n, err)
	}
	if err := os.WriteFile(path, []byte(`{"namespaceIsolation":true}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if n, err := readNetworks(path, slog.New(slog.DiscardHandler)); err != nil || !n.Isolation {
		t.Errorf("got %+v, %v", n, err)
	}
}
