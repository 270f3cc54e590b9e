package sysfs_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tendril-cni/tendril/vf"
	"github.com/tendril-cni/tendril/vf/sysfs"
	"github.com/tendril-cni/tendril/vf/vftest"
)

// deadline bounds every wait of these tests; nothing is asserted about time.
const deadline = 20 * time.Second

// running starts an inventory on a fresh tree and ends it with the test.
func running(t *testing.T, opts sysfs.Options) (inv *sysfs.Inventory, root string, log *bytes.Buffer) {
	t.Helper()
	root, log = vftest.Tree(t, vftest.TwoNICs()), &bytes.Buffer{}
	inv = sysfs.NewInventory(sysfs.New(root), slog.New(slog.NewTextHandler(log, nil)), opts)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- inv.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	refresh(t, inv)
	return inv, root, log
}

func refresh(t *testing.T, inv *sysfs.Inventory) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	if err := inv.Refresh(ctx); err != nil {
		t.Fatal(err)
	}
}

func unbind(t *testing.T, root, addr string) {
	t.Helper()
	if err := os.Remove(filepath.Join(root, "bus/pci/devices", addr, "driver")); err != nil {
		t.Fatal(err)
	}
}

func TestInventoryFollowsChanges(t *testing.T) {
	inv, root, _ := running(t, sysfs.Options{})
	first := inv.Snapshot()
	if first.Generation != 1 || len(first.VFs) != 9 {
		t.Fatalf("first snapshot: generation %d, %d VFs", first.Generation, len(first.VFs))
	}
	refresh(t, inv)
	if got := inv.Snapshot(); got != first {
		t.Errorf("nothing changed, yet generation %d was published", got.Generation)
	}
	changes, cancel := inv.Subscribe()
	defer cancel()
	unbind(t, root, "0000:01:10.2")
	refresh(t, inv)
	select {
	case <-changes:
	case <-time.After(deadline):
		t.Fatal("subscriber was not woken")
	}
	v, _ := inv.Snapshot().VF(vf01)
	if old, _ := first.VF(vf01); v.Driver != "" || old.Driver != "igbvf" {
		t.Errorf("driver now %q (want none), in the old snapshot %q (want igbvf)", v.Driver, old.Driver)
	}
	if g := inv.Snapshot().Generation; g != 2 {
		t.Errorf("generation %d, want 2", g)
	}
}

func TestInventoryWakesOnEvents(t *testing.T) {
	events := make(chan struct{})
	inv, root, _ := running(t, sysfs.Options{Events: events})
	changes, cancel := inv.Subscribe()
	defer cancel()
	unbind(t, root, "0000:01:10.2")
	for range 3 {
		events <- struct{}{}
	}
	select {
	case <-changes:
	case <-time.After(deadline):
		t.Fatal("events did not lead to a scan")
	}
	cancel()
	unbind(t, root, "0000:01:10.4")
	refresh(t, inv)
	select {
	case <-changes:
		t.Error("woken after cancel")
	default:
	}
}

func TestInventoryNamesEachSkippedAttributeOnce(t *testing.T) {
	inv, root, log := running(t, sysfs.Options{})
	path := filepath.Join(root, "bus/pci/devices/0000:01:10.2/numa_node")
	if err := os.WriteFile(path, []byte("left\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		refresh(t, inv)
	}
	if n := strings.Count(log.String(), "0000:01:10.2/numa_node"); n == 0 || strings.Count(log.String(), "\n") != 1 {
		t.Errorf("want one line about numa_node, got:\n%s", log)
	}
}

func TestInventoryTakesAltNames(t *testing.T) {
	names := func() (map[string][]string, error) { return map[string][]string{"sriov0": {"enp1s0f0"}}, nil }
	inv, _, _ := running(t, sysfs.Options{AltNames: names})
	p, _ := inv.Snapshot().PF(vf.MustAddr("0000:01:00.0"))
	if len(p.AltNames) != 1 || p.AltNames[0] != "enp1s0f0" {
		t.Errorf("altnames %v", p.AltNames)
	}
}

// The list of links is cut short for as long as links come and go (ErrDumpInterrupted),
// as in a storm of pods: what selects NICs by these names must not lose them then.
func TestInventoryKeepsNamesThatCannotBeRead(t *testing.T) {
	var broken atomic.Bool
	pf := vf.MustAddr("0000:01:00.0")
	inv, root, _ := running(t, sysfs.Options{
		AltNames: func() (map[string][]string, error) {
			if broken.Load() {
				return nil, errors.New("results may be incomplete or inconsistent")
			}
			return map[string][]string{"sriov0": {"enp1s0f0"}}, nil
		},
		Profiles: func() (map[vf.Addr]string, error) {
			if broken.Load() {
				return nil, errors.New("interrupted")
			}
			return map[vf.Addr]string{pf: "GTP"}, nil
		},
	})
	broken.Store(true)
	unbind(t, root, "0000:01:10.2")
	refresh(t, inv)
	if p, _ := inv.Snapshot().PF(pf); !slices.Equal(p.AltNames, []string{"enp1s0f0"}) || p.DDPProfile != "GTP" {
		t.Errorf("altnames %v, DDP profile %q", p.AltNames, p.DDPProfile)
	}
	if v, _ := inv.Snapshot().VF(vf01); v.Driver != "" {
		t.Errorf("the rest of the scan is not new: %+v", v)
	}
}

func TestConcerns(t *testing.T) {
	rows := map[string]bool{
		"bind@/devices/pci0000:00/0000:01:10.2\x00ACTION=bind\x00SUBSYSTEM=pci\x00":           true,
		"move@/devices/pci0000:00/0000:01:10.2/net/net1\x00SUBSYSTEM=net\x00":                 true,
		"add@/devices/pci0000:00/0000:01:00.0/mlx5_core.sf.4\x00SUBSYSTEM=auxiliary\x00":      true,
		"add@/devices/pci0000:00/0000:01:10.2/infiniband/mlx5_3\x00SUBSYSTEM=infiniband\x00":  true,
		"add@/devices/pci0000:00/0000:01:10.2/vdpa0\x00ACTION=add\x00SUBSYSTEM=vdpa\x00":      true,
		"add@/devices/pci0000:00/0000:01:10.2/vdpa0/vhost-vdpa-1\x00SUBSYSTEM=vhost-vdpa\x00": true,
		"add@/devices/virtual/block/loop3\x00ACTION=add\x00SUBSYSTEM=block\x00":               false,
		"add@/devices/virtual/net/veth0\x00ACTION=add\x00SUBSYSTEM=net\x00":                   false,
		"add@/devices/pci0000:00/0000:01:10.2/net/eth0/queues/rx-0\x00SUBSYSTEM=queues\x00":   false,
		"": false, "\x00\x00": false, "SUBSYSTEM=pci": false,
	}
	for message, want := range rows {
		if got := sysfs.Concerns([]byte(message)); got != want {
			t.Errorf("%q: %v, want %v", message, got, want)
		}
	}
}
