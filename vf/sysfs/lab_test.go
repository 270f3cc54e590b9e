//go:build lab

package sysfs_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/Mellanox/sriovnet"
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
	for _, v := range inv.Snapshot().VFs {
		agree(t, v)
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
	inPod, _ := inv.Snapshot().VF(v.Addr)
	agree(t, inPod)
	_ = ns.Close() // the kernel returns the VF
	shows(v.Netdev)
}

// agree compares a VF with what sriovnet's look-ups say of it.
func agree(t *testing.T, v vf.VF) {
	t.Helper()
	agreeOnNetdev(t, v)
	pf, err1 := sriovnet.GetPfPciFromVfPci(v.Addr.String())
	index, err2 := sriovnet.GetVfIndexByPciAddress(v.Addr.String())
	if err := errors.Join(err1, err2); err != nil || pf != v.PF.String() || index != v.Index {
		t.Errorf("%s is VF %d of %s, to sriovnet VF %d of %s, %v", v.Addr, v.Index, v.PF, index, pf, err)
	}
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
