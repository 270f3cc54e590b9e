//go:build lab

package sysfs_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/tendril-cni/tendril/cni/netns/netnstest"
	"github.com/tendril-cni/tendril/vf"
	"github.com/tendril-cni/tendril/vf/sysfs"
)

// TestInventoryOfTheMachine runs on real igb NICs: what it finds, and that the
// kernel's events alone make it follow a VF into a namespace and back.
func TestInventoryOfTheMachine(t *testing.T) {
	inv := sysfs.NewInventory(sysfs.New("/sys"), slog.New(slog.DiscardHandler), sysfs.Options{})
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
	v := free(t, inv.Snapshot())

	changes, unsubscribe := inv.Subscribe()
	defer unsubscribe()
	shows := func(name string) {
		t.Helper()
		for end := time.After(deadline); ; {
			if now, _ := inv.Snapshot().VF(v.Addr); now.Netdev == name {
				return
			}
			select {
			case <-changes:
			case <-end:
				t.Fatalf("no event showed VF %s with netdev %q", v.Addr, name)
			}
		}
	}
	l, err := netlink.LinkByName(v.Netdev)
	if err != nil {
		t.Fatal(err)
	}
	ns := netnstest.Pod(t)
	if err := netlink.LinkSetNsFd(l, int(ns.Fd())); err != nil {
		t.Fatal(err)
	}
	shows("")
	_ = ns.Close() // the kernel returns the VF
	shows(v.Netdev)
}

// free checks both NICs and returns a VF of the first.
func free(t *testing.T, snap *vf.Snapshot) (found vf.VF) {
	t.Helper()
	count := map[string]int{}
	for _, v := range snap.VFs {
		pf, ok := snap.PF(v.PF)
		if !ok || v.Driver != "igbvf" || v.Netdev == "" || v.IOMMUGroup < 0 || v.LinkType != "ether" || v.Vendor != "8086" || v.Device != "10ca" || v.Index < 0 {
			t.Errorf("PF %v, VF %+v", ok, v)
		}
		if count[pf.Netdev]++; pf.Netdev == "sriov0" {
			found = v
		}
	}
	for _, name := range []string{"sriov0", "sriov1"} {
		if count[name] != 7 {
			t.Errorf("%s has %d VFs, want 7", name, count[name])
		}
	}
	for _, p := range snap.PFs {
		if p.TotalVFs > 0 && (p.Driver != "igb" || p.TotalVFs != 7 || p.NumVFs != 7 || p.MTU != 1500 || !p.Autoprobe) {
			t.Errorf("PF %+v", p)
		}
	}
	return found
}
