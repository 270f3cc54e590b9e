package macvlan_test

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netns/netnstest"
	"github.com/tendril-cni/tendril/cni/netns/stacked"
)

// node is a watcher with a record, as the engine wires it.
type node struct {
	mu       sync.Mutex // guards what follows
	record   cni.Record
	findings []stacked.Change
}

func (n *node) seen(c stacked.Change) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, f := range n.findings {
		if f == c {
			return true
		}
	}
	return false
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("timed out waiting until " + what)
		}
	}
}

// TestParentComesAndGoes: the parent is deleted and made again, as the restart of
// a network service does it, and its MTU falls and rises.
func TestParentComesAndGoes(t *testing.T) {
	master, _ := netnstest.Veth(t)
	name := master.Attrs().Name
	pod, d, h := netnstest.Pod(t), driver(), netnstest.Handle(t, nil)
	a := attachment(`{"master":"%s"}`, name)
	a.Addresses = []cni.Address{{Prefix: netip.MustParsePrefix("10.1.0.5/24")}}
	n := &node{record: mustAttach(t, d, pod, a)}
	inside := netnstest.Handle(t, pod)

	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	w := &stacked.Watcher{
		Records: func() ([]cni.Record, error) {
			n.mu.Lock()
			defer n.mu.Unlock()
			return []cni.Record{n.record}, nil
		},
		Repair: func(ctx context.Context, f stacked.Finding) error {
			r, err := stacked.Mend(ctx, pod, d, f)
			if err == nil {
				n.mu.Lock()
				n.record = r
				n.mu.Unlock()
			}
			return err
		},
		Report: func(f stacked.Finding, err error) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.findings = append(n.findings, f.Change)
		},
		Log: slog.New(slog.DiscardHandler),
	}
	go func() { done <- w.Run(ctx) }()

	if err := h.LinkSetMTU(master, 1400); err != nil {
		t.Fatal(err)
	}
	until(t, "the smaller MTU is told", func() bool { return n.seen(stacked.Shrunk) })
	if err := h.LinkSetMTU(master, 1500); err != nil {
		t.Fatal(err)
	}
	until(t, "the interface has its MTU again", func() bool { return netnstest.Link(t, inside, "net1").Attrs().MTU == 1500 })

	if err := h.LinkDel(master); err != nil {
		t.Fatal(err)
	}
	until(t, "the loss is told", func() bool { return n.seen(stacked.Vanished) })
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	if err := h.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: name + "w"}); err != nil {
		t.Fatal(err)
	}
	again := netnstest.Link(t, h, name)
	if err := errors.Join(h.LinkSetUp(again), h.LinkSetUp(netnstest.Link(t, h, name+"w"))); err != nil {
		t.Fatal(err)
	}
	until(t, "the interface is back", func() bool { return n.seen(stacked.Returned) })
	l := netnstest.Link(t, inside, "net1")
	addrs, err := inside.AddrList(l, netlink.FAMILY_V4)
	if err != nil || len(addrs) != 1 || addrs[0].IPNet.String() != "10.1.0.5/24" {
		t.Errorf("it has %v, %v", addrs, err)
	}
	n.mu.Lock()
	if l.Attrs().HardwareAddr.String() != n.record.Link.MAC || n.record.Attachment.MAC != "" || l.Attrs().ParentIndex != again.Attrs().Index {
		t.Errorf("it is %+v, recorded %+v", l.Attrs(), n.record)
	}
	n.mu.Unlock()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := d.Detach(context.Background(), pod, n.record); err != nil {
		t.Fatal(err)
	}
	netnstest.Absent(t, inside, "net1")
}

// TestSweepTakesAllLinksOfAPod at once, and leaves what is not in the records.
func TestSweepTakesAllLinksOfAPod(t *testing.T) {
	master, _ := netnstest.Veth(t)
	pod, d := netnstest.Pod(t), driver()
	inside := netnstest.Handle(t, pod)
	var records []cni.Record
	for _, name := range []string{"net1", "net2", "net3", "stays"} {
		a := attachment(`{"master":"%s"}`, master.Attrs().Name)
		a.IfName, a.ContainerID = name, "pod"
		records = append(records, mustAttach(t, d, pod, a))
	}
	for range 2 {
		if err := stacked.Sweep(ctx, pod, records[:3], slog.New(slog.DiscardHandler)); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range records[:3] {
		netnstest.Absent(t, inside, r.Link.Name)
		if err := d.Detach(ctx, pod, r); err != nil {
			t.Error(err)
		}
	}
	netnstest.Link(t, inside, "stays")
	if err := stacked.Sweep(ctx, nil, records, slog.New(slog.DiscardHandler)); err != nil {
		t.Error(err)
	}
}

// BenchmarkFourLinksGo compares the deletion of a pod's links one by one with the
// one of all at once.
func BenchmarkFourLinksGo(b *testing.B) {
	log := slog.New(slog.DiscardHandler)
	for _, sweep := range []bool{false, true} {
		b.Run(map[bool]string{false: "one by one", true: "swept"}[sweep], func(b *testing.B) {
			master, _ := netnstest.Veth(b)
			pod, d := netnstest.Pod(b), driver()
			for b.Loop() {
				b.StopTimer()
				var records []cni.Record
				for _, name := range []string{"net1", "net2", "net3", "net4"} {
					a := attachment(`{"master":"%s"}`, master.Attrs().Name)
					a.IfName, a.ContainerID = name, "pod"
					records = append(records, mustAttach(b, d, pod, a))
				}
				b.StartTimer()
				if sweep {
					if err := stacked.Sweep(ctx, pod, records, log); err != nil {
						b.Fatal(err)
					}
				}
				for _, r := range records {
					if err := d.Detach(ctx, pod, r); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
