//go:build lab

package sriov_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netns/netnstest"
	"github.com/tendril-cni/tendril/cni/sriov"
	"github.com/tendril-cni/tendril/vf"
	"github.com/tendril-cni/tendril/vf/quarantine"
	"github.com/tendril-cni/tendril/vf/sysfs"
)

// TestInvariant4NamespaceDestroyedUnderUs: nobody called DEL, the namespace is gone, and the
// VF is caught on its return, renamed and reset, by the inventory's word alone.
func TestInvariant4NamespaceDestroyedUnderUs(t *testing.T) {
	b := take(t, 2)
	inv := sysfs.NewInventory(sys, slog.New(slog.DiscardHandler), sysfs.Options{})
	changes, unsubscribe := inv.Subscribe()
	defer unsubscribe()
	ns := netnstest.Pod(t)
	r := b.record(ns, withoutRates)
	var mu sync.Mutex
	var records []cni.Record
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = inv.Run(ctx) })
	wg.Go(func() {
		_ = b.driver.Watch(ctx, changes, func() ([]cni.Record, error) {
			mu.Lock()
			defer mu.Unlock()
			return records, nil
		}, func(ctx context.Context, r cni.Record) error { return b.driver.Detach(ctx, nil, r) })
	})
	defer func() { cancel(); wg.Wait() }()
	b.attach(ns, &r)
	mu.Lock()
	records = []cni.Record{r}
	mu.Unlock()
	if back, err := b.driver.Returned(r); err != nil || back {
		t.Errorf("in the pod: returned %v, %v", back, err)
	}
	began := time.Now()
	_ = ns.Close()
	b.eventually("the VF's name and MTU", func() error {
		l, err := netlink.LinkByName(b.vf.Netdev)
		if err == nil && (l.Attrs().Alias != "" || l.Attrs().MTU != b.vf.MTU) {
			err = errors.New("not reset yet")
		}
		return err
	})
	t.Logf("caught and reset %v after its namespace ended", time.Since(began).Round(time.Millisecond))
	b.back("after the VF was caught")
	if back, err := b.driver.Returned(r); err != nil || back {
		t.Errorf("after the reset: returned %v, %v", back, err)
	}
	b.detach(nil, r) // the DEL that the runtime owes
}

// store is a quarantine's Store in memory.
type store struct {
	mu  sync.Mutex // guards all
	all map[string][]byte
}

func (s *store) All() (map[string][]byte, error) { return s.all, nil }

func (s *store) Put(k string, v []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all[k] = v
	return nil
}

func (s *store) Delete(k string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, k)
	return nil
}

// TestInvariant4PFDownAtDelete: igb takes no rate while its PF has no link, so a
// VF that had one cannot reach its baseline. It stays in quarantine, out of its
// pod, until the PF is up again.
func TestInvariant4PFDownAtDelete(t *testing.T) {
	b := take(t, 1)
	pf, err := netlink.LinkByName("sriov0")
	must(t, err)
	b.eventually("link of the PF", linkOf("sriov0"))
	must(t, netlink.LinkSetVfRate(pf, b.vf.Index, 0, 100)) // the provisioner's
	ns := netnstest.Pod(t)
	r := b.record(ns, `{"type":"sriov","vlan":77,"max_tx_rate":50,"trust":"on"}`)
	b.attach(ns, &r)
	must(t, netlink.LinkSetDown(pf))
	t.Cleanup(func() { _ = netlink.LinkSetUp(pf) })

	cause := b.driver.Detach(b.ctx(), ns, r)
	if cause == nil {
		t.Fatal("Detach succeeded without link")
	}
	t.Logf("Detach: %v", cause)
	ward := b.ward()
	note, err := json.Marshal(r)
	must(t, err)
	must(t, ward.Admit(quarantine.Entry{VF: b.vf.Addr, Holder: "pod default/p", Cause: cause.Error(), Since: time.Now(), Note: note}))
	_ = ns.Close() // the pod is deleted without waiting
	if i := b.pf(); i.Vlan != 0 || i.Trust != 0 {
		t.Errorf("what could be restored was not: %+v", i)
	}
	if c := ward.Cause(b.vf.Addr); !strings.Contains(c, "pod default/p") || !strings.Contains(c, "max_tx_rate") {
		t.Errorf("cause %q", c)
	}
	must(t, netlink.LinkSetUp(pf))
	b.eventually("link of the PF", linkOf("sriov0"))
	ward.Poke() // what the inventory's word is for
	b.eventually("the end of the quarantine", func() error {
		if c := ward.Cause(b.vf.Addr); c != "" {
			return errors.New(c)
		}
		return nil
	})
	if i := b.pf(); i.MaxTxRate != 100 {
		t.Errorf("rate %d after the quarantine", i.MaxTxRate)
	}
	must(t, netlink.LinkSetVfRate(pf, b.vf.Index, 0, 0))
	// A PF that comes up forgets what its VFs announced, until they do so again.
	l, err := netlink.LinkByName(b.vf.Netdev)
	must(t, err)
	must(t, netlink.LinkSetUp(l))
	must(t, netlink.LinkSetDown(l))
	announced := regexp.MustCompile(`\| [0-9a-f:]{17} `)
	if now := world(t); announced.ReplaceAllString(now, "") != announced.ReplaceAllString(b.world, "") {
		t.Errorf("before:\n%s\nnow:\n%s", b.world, now)
	}
	b.world = world(t)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func linkOf(name string) func() error {
	return func() error {
		l, err := netlink.LinkByName(name)
		if err == nil && l.Attrs().OperState != netlink.OperUp {
			err = errors.New("no link")
		}
		return err
	}
}

// ward runs a quarantine until the test ends.
func (b *bench) ward() *quarantine.Ward {
	b.Helper()
	w, err := quarantine.New(quarantine.Options{
		Store: &store{all: map[string][]byte{}}, Log: slog.New(slog.NewTextHandler(testLog{b.T}, nil)),
		Restore: func(ctx context.Context, e quarantine.Entry) error { return b.driver.Restore(ctx, e.Note) },
	})
	must(b.T, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = w.Run(ctx)
	}()
	b.Cleanup(func() { cancel(); <-done })
	return w
}

// TestInvariant4DriverSwappedUnderUs: the VF's driver is changed while a pod has
// the VF; DEL gives it back with its driver, name and MAC.
func TestInvariant4DriverSwappedUnderUs(t *testing.T) {
	b := take(t, 4)
	ns := netnstest.Pod(t)
	r := b.record(ns, withoutRates)
	b.attach(ns, &r)
	if err := b.driver.Check(b.ctx(), ns, r); err != nil {
		t.Errorf("Check: %v", err)
	}
	if err := sys.Bind(b.ctx(), b.vf.Addr, vf.VFIO); err != nil {
		t.Fatal(err)
	}
	if err := b.driver.Check(b.ctx(), ns, r); err == nil || !strings.Contains(err.Error(), "vfio-pci") {
		t.Errorf("Check: %v", err)
	}
	b.detach(ns, r)
	b.back("after Detach")
}

func TestCheckNamesWhatIsDifferent(t *testing.T) {
	b := take(t, 5)
	ns := netnstest.Pod(t)
	r := b.record(ns, `{"type":"sriov","vlan":42,"mtu":1400,"trust":"on"}`)
	b.attach(ns, &r)
	if err := b.driver.Check(b.ctx(), ns, r); err != nil {
		t.Errorf("nothing is different: %v", err)
	}
	pf, err := netlink.LinkByName("sriov0")
	if err == nil {
		err = netlink.LinkSetVfVlan(pf, b.vf.Index, 43)
	}
	h := netnstest.Handle(t, ns)
	if err == nil {
		err = h.LinkSetMTU(netnstest.Link(t, h, "net1"), 1300)
	}
	if err != nil {
		t.Fatal(err)
	}
	err = b.driver.Check(b.ctx(), ns, r)
	if err == nil || !strings.Contains(err.Error(), "vlan 43") || !strings.Contains(err.Error(), "1300") {
		t.Errorf("Check: %v", err)
	}
	b.detach(ns, r)
	b.back("after Detach")
	if err := b.driver.Check(b.ctx(), ns, r); err == nil {
		t.Error("Check of a VF that was given back succeeds")
	}
}

func TestInvariant6BusyVFIsNotTaken(t *testing.T) {
	b := take(t, 6)
	busy := sriov.New(sys, slog.New(slog.DiscardHandler), sriov.Busy(func(vf.Addr) string { return "driver is being bound" }))
	ns := netnstest.Pod(t)
	r := b.record(ns, withoutRates)
	b.prior(&r)
	if _, err := busy.Attach(b.ctx(), ns, r); err == nil || !strings.Contains(err.Error(), "driver is being bound") {
		t.Errorf("Attach: %v", err)
	}
	if err := busy.Detach(b.ctx(), ns, r); err != nil {
		t.Errorf("Detach: %v", err)
	}
	b.back("after a refused Attach")
}

// TestInvariant3NamespaceEndsDuringDetach: the daemon cannot open the namespace
// any more, and the kernel has not returned the VF yet.
func TestInvariant3NamespaceEndsDuringDetach(t *testing.T) {
	b := take(t, 3)
	for _, delay := range []time.Duration{0, 5 * time.Millisecond, 50 * time.Millisecond, 500 * time.Millisecond} {
		ns := netnstest.Pod(t)
		r := b.record(ns, withoutRates)
		b.attach(ns, &r)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			time.Sleep(delay) // the moment of the end, not a wait for anything
			_ = ns.Close()
		}()
		b.detach(nil, r)
		<-ended
		b.back("after the namespace ended " + delay.String() + " into Detach")
	}
	b.unlocked()
}
