//go:build !lab

package sriov_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netns/netnstest"
	"github.com/tendril-cni/tendril/cni/sriov"
	"github.com/tendril-cni/tendril/vf/sysfs"
	"github.com/tendril-cni/tendril/vf/vftest"
)

// A tenant's alternative names go with the device wherever it goes: on the host they
// are names that scripts find, and a next pod whose own interface has one of them
// could never get the VF. A veth stands for the VF's device: names are the same.
func TestInvariant4TenantsAlternativeNamesAreUndone(t *testing.T) {
	const name, own, mine = "sriov0v1", "enp1s0f0v1", "eth9"
	l, _ := netnstest.Veth(t)
	host := netnstest.Handle(t, nil)
	for what, err := range map[string]error{"name": host.LinkSetName(l, name), "altname": host.LinkAddAltName(l, own)} {
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	tree := vftest.TwoNICs() + "-- LINKS --\ndevices/pci0000:00/0000:01:00.0/net/\n"
	root := vftest.Tree(t, tree)
	d := sriov.New(sysfs.New(root), slog.New(slog.DiscardHandler))
	pod := netnstest.Pod(t)
	r, err := netnstest.Attach(d, pod, attachment("0000:01:10.2", `{"type":"sriov"}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Phase = cni.Attached
	h := netnstest.Handle(t, pod)
	inside := netnstest.Link(t, h, "net1")
	for what, err := range map[string]error{"add": h.LinkAddAltName(inside, mine), "delete": h.LinkDelAltName(inside, own)} {
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	// The pod ends, and the kernel brings the device back by itself.
	here, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer here.Close()
	if err := h.LinkSetNsFd(inside, int(here.Fd())); err != nil {
		t.Fatal(err)
	}
	shown := filepath.Join(root, "devices/pci0000:00/0000:01:10.2/net")
	if err := os.Rename(filepath.Join(shown, name), filepath.Join(shown, "net1")); err != nil {
		t.Fatal(err)
	}
	if err := d.Detach(t.Context(), nil, r); err != nil {
		t.Fatal(err)
	}
	back := netnstest.Link(t, host, name)
	if got := back.Attrs().AltNames; !slices.Equal(got, []string{own}) {
		t.Errorf("alternative names %v, want %v", got, own)
	}
}
