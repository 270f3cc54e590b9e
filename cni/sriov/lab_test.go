//go:build lab

package sriov_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/cni/netns"
	"github.com/tendril-cni/tendril/cni/netns/netnstest"
	"github.com/tendril-cni/tendril/cni/sriov"
	"github.com/tendril-cni/tendril/vf"
	"github.com/tendril-cni/tendril/vf/sysfs"
)

// deadline bounds every wait; the machine is emulated and slow.
const deadline = time.Minute

var sys = sysfs.New("/sys")

func TestMain(m *testing.M) {
	if os.Getenv(childMark) != "" {
		child()
	}
	for _, pf := range []string{"sriov0", "sriov1"} {
		l, err := netlink.LinkByName(pf)
		if err == nil {
			err = netlink.LinkSetUp(l)
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "set up %s: %v\n", pf, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// bench is one VF under test.
type bench struct {
	*testing.T
	driver *sriov.Driver
	vf     vf.VF
	world  string
}

// take returns VF i of sriov0 and checks, when the test ends, that every VF of
// the machine is as it was.
func take(t *testing.T, i int) *bench {
	t.Helper()
	b := &bench{T: t, driver: sriov.New(sys, slog.New(slog.NewTextHandler(testLog{t}, nil)))}
	snap, _, err := sys.Scan()
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range snap.VFs {
		if pf, _ := snap.PF(v.PF); pf.Netdev == "sriov0" && v.Index == i {
			b.vf = v
		}
	}
	if b.vf.Netdev == "" {
		t.Fatalf("sriov0 has no free VF %d", i)
	}
	b.world = world(t)
	t.Cleanup(func() {
		if now := world(t); now != b.world {
			t.Errorf("the world changed\nbefore:\n%s\nafter:\n%s", b.world, now)
		}
	})
	return b
}

type testLog struct{ t *testing.T }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// world prints every VF as another netlink library and sysfs see it.
func world(t *testing.T) string {
	t.Helper()
	var out strings.Builder
	snap, _, err := sys.Scan()
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range snap.VFs {
		pf, _ := snap.PF(v.PF)
		fmt.Fprintf(&out, "%s %s", v.Addr, v.Driver)
		if v.Netdev != "" {
			l, err := netlink.LinkByName(v.Netdev)
			if err != nil {
				t.Fatal(err)
			}
			a := l.Attrs()
			fmt.Fprintf(&out, " %s %s mtu %d alias %q up %v flags %#x", a.Name, a.HardwareAddr, a.MTU, a.Alias, a.Flags&net.FlagUp != 0, a.RawFlags&(unix.IFF_PROMISC|unix.IFF_ALLMULTI))
		}
		i := atPF(t, pf.Netdev, v.Index)
		fmt.Fprintf(&out, " | %s vlan %d/%d/%#x spoof %v trust %d rates %d/%d\n", i.Mac, i.Vlan, i.Qos, i.VlanProto, i.Spoofchk, i.Trust, i.MinTxRate, i.MaxTxRate)
	}
	return out.String()
}

func atPF(t *testing.T, pf string, index int) netlink.VfInfo {
	t.Helper()
	l, err := netlink.LinkByName(pf)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range l.Attrs().Vfs {
		if i.ID == index {
			return i
		}
	}
	t.Fatalf("%s does not report VF %d", pf, index)
	return netlink.VfInfo{}
}

func (b *bench) pf() netlink.VfInfo { b.Helper(); return atPF(b.T, "sriov0", b.vf.Index) }

// record is what the engine would have journaled before Attach.
func (b *bench) record(ns *os.File, config string) cni.Record {
	b.Helper()
	id, err := netns.Identify(ns)
	if err != nil {
		b.Fatal(err)
	}
	return cni.Record{Phase: cni.Intent, Attachment: cni.Attachment{
		ContainerID: "c-" + netnstest.Name(b.vf.Addr.String()), IfName: "net1", Netns: id, Network: "default/fast", Kind: cni.KindSriov,
		Pod: cni.PodRef{Namespace: "default", Name: "p"}, Device: b.vf.Addr.String(),
		Config: netconf.Network{Name: "fast", CNIVersion: "1.0.0", Plugins: []netconf.Plugin{{Type: "sriov", Raw: json.RawMessage(config)}}},
	}}
}

func (b *bench) prior(r *cni.Record) {
	b.Helper()
	prior, err := b.driver.Prior(b.ctx(), r.Attachment)
	if err != nil {
		b.Fatalf("Prior: %v", err)
	}
	r.Prior = prior
}

// attach runs a whole ADD of one VF.
func (b *bench) attach(ns *os.File, r *cni.Record) cni.Link {
	b.Helper()
	if r.Prior == nil {
		b.prior(r)
	}
	l, err := b.driver.Attach(b.ctx(), ns, *r)
	if err != nil {
		b.Fatalf("Attach: %v", err)
	}
	r.Phase, r.Link = cni.Attached, l
	return l
}

func (b *bench) detach(ns *os.File, r cni.Record) {
	b.Helper()
	b.eventually("Detach", func() error { return b.driver.Detach(b.ctx(), ns, r) })
}

// ctx ends with the test.
func (b *bench) ctx() context.Context { return b.Context() }

func (b *bench) eventually(what string, f func() error) {
	b.Helper()
	for end := time.Now().Add(deadline); ; time.Sleep(50 * time.Millisecond) {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			b.Fatalf("%s: %v", what, err)
		}
	}
}

// back checks the world now, not only when the test ends.
func (b *bench) back(when string) {
	b.Helper()
	if now := world(b.T); now != b.world {
		b.Fatalf("%s, the world is\n%s\nand was\n%s", when, now, b.world)
	}
}

func address(s string) []cni.Address { return []cni.Address{{Prefix: netip.MustParsePrefix(s)}} }

func TestAttachObserveDetach(t *testing.T) {
	b := take(t, 0)
	ns := netnstest.Pod(t)
	r := b.record(ns, `{"type":"sriov","mtu":1400}`)
	r.Attachment.Addresses = address("10.9.0.1/24")
	r.Attachment.Routes = []cni.Route{{Dst: netip.MustParsePrefix("10.10.0.0/16"), Via: netip.MustParseAddr("10.9.0.254")}}
	l := b.attach(ns, &r)
	h := netnstest.Handle(t, ns)
	seen := netnstest.Link(t, h, "net1").Attrs()
	if l.Index != seen.Index || l.MAC != seen.HardwareAddr.String() || l.MTU != 1400 || seen.MTU != 1400 || l.PCI != b.vf.Addr.String() || seen.Flags&net.FlagUp == 0 {
		t.Errorf("reported %+v, seen %+v", l, seen)
	}
	if a, err := h.AddrList(netnstest.Link(t, h, "net1"), netlink.FAMILY_V4); err != nil || len(a) != 1 {
		t.Errorf("addresses %v, %v", a, err)
	}
	if names, err := sys.Netdevs(b.vf.Addr); err != nil || len(names) > 0 {
		t.Errorf("still on the host: %v, %v", names, err)
	}
	b.detach(ns, r)
	b.back("after Detach")
	if err := b.driver.Detach(b.ctx(), ns, r); err != nil {
		t.Errorf("second Detach: %v", err)
	}
}

const everything = `{"type":"sriov","vlan":100,"vlanQoS":3,"mac":"02:00:00:00:0a:01","spoofchk":"off","trust":"on","max_tx_rate":50,"min_tx_rate":0,"link_state":"auto","mtu":1400}`

// withoutRates is everything that igb takes also while the PF has no carrier.
const withoutRates = `{"type":"sriov","vlan":100,"vlanQoS":3,"mac":"02:00:00:00:0a:01","spoofchk":"off","trust":"on","mtu":1400}`

// TestPFSideIsSetAndRestored: as the PF says it. That frames are dropped or held
// back accordingly is the NIC's affair, and the lab's does not hold back any: see
// docs/lab.md.
func TestPFSideIsSetAndRestored(t *testing.T) {
	b := take(t, 1)
	ns := netnstest.Pod(t)
	r := b.record(ns, everything)
	b.prior(&r)
	// Rates are taken only with carrier.
	b.eventually("carrier of sriov0", func() error {
		l, err := netlink.LinkByName("sriov0")
		if err == nil && l.Attrs().OperState != netlink.OperUp {
			err = fmt.Errorf("state %v", l.Attrs().OperState)
		}
		return err
	})
	l := b.attach(ns, &r)
	i := b.pf()
	if l.MAC != "02:00:00:00:0a:01" || i.Mac.String() != l.MAC || i.Vlan != 100 || i.Qos != 3 || i.Spoofchk || i.Trust != 1 || i.MaxTxRate != 50 {
		t.Errorf("link %+v, PF %+v", l, i)
	}
	b.detach(ns, r)
	b.back("after Detach")
	b.unlocked()
}

// unlocked checks that the PF did not keep the VF's MAC for itself: the host may
// set it, and set it back.
func (b *bench) unlocked() {
	b.Helper()
	l := netnstest.Link(b.T, netnstest.Handle(b.T, nil), b.vf.Netdev)
	was := l.Attrs().HardwareAddr
	for _, mac := range []net.HardwareAddr{{2, 0, 0, 0, 0xb, 1}, was} {
		if err := netlink.LinkSetHardwareAddr(l, mac); err != nil {
			b.Errorf("VF is locked: set %s: %v", mac, err)
		}
	}
}

func TestSameMACIsNotTouchedOnTheDevice(t *testing.T) {
	b := take(t, 1)
	ns := netnstest.Pod(t)
	r := b.record(ns, `{"type":"sriov"}`)
	r.Attachment.MAC = netnstest.Link(t, netnstest.Handle(t, nil), b.vf.Netdev).Attrs().HardwareAddr.String()
	if l := b.attach(ns, &r); l.MAC != r.Attachment.MAC {
		t.Errorf("MAC %s", l.MAC)
	}
	b.detach(ns, r)
	b.back("after Detach")
	b.unlocked()
}

func TestInvariant3NamespaceIsGone(t *testing.T) {
	b := take(t, 2)
	ns := netnstest.Pod(t)
	r := b.record(ns, withoutRates)
	b.attach(ns, &r)
	_ = ns.Close()
	b.detach(nil, r)
	b.back("after Detach")
	b.unlocked()
}

func TestInvariant3PathNamesAnotherNamespace(t *testing.T) {
	b := take(t, 2)
	ns, next := netnstest.Pod(t), netnstest.Pod(t)
	r := b.record(ns, withoutRates)
	b.attach(ns, &r)
	_ = ns.Close()
	b.detach(next, r)
	b.back("after Detach")
}

func TestInvariant4TenantChangesAreUndone(t *testing.T) {
	b := take(t, 3)
	ns := netnstest.Pod(t)
	r := b.record(ns, `{"type":"sriov","trust":"on"}`)
	b.attach(ns, &r)
	h := netnstest.Handle(t, ns)
	l := netnstest.Link(t, h, "net1")
	for what, err := range map[string]error{
		"down":  h.LinkSetDown(l),
		"MAC":   h.LinkSetHardwareAddr(l, net.HardwareAddr{2, 0, 0, 0, 0xc, 1}),
		"MTU":   h.LinkSetMTU(l, 1300),
		"name":  h.LinkSetName(l, "mine"),
		"alias": h.LinkSetAlias(l, "mine"),
		"other": h.LinkAddAltName(l, "mine-too"),
		"taken": h.LinkAddAltName(l, "sriov1"), // on the host, where it is to go
		"up":    h.LinkSetUp(l),

		"promisc":  h.SetPromiscOn(l),
		"allmulti": h.LinkSetAllmulticastOn(l),
	} {
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	b.detach(ns, r)
	b.back("after Detach")
}

func TestNameIsTakenOnTheHost(t *testing.T) {
	b := take(t, 4)
	ns := netnstest.Pod(t)
	r := b.record(ns, `{"type":"sriov"}`)
	b.attach(ns, &r)
	squatter := &netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: b.vf.Netdev}}
	if err := netlink.LinkAdd(squatter); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = netlink.LinkDel(squatter) })
	b.detach(ns, r)
	names, err := sys.Netdevs(b.vf.Addr)
	if err != nil || len(names) != 1 || names[0] == b.vf.Netdev || names[0] == "net1" {
		t.Fatalf("names on the host: %v, %v", names, err)
	}
	if err := netlink.LinkDel(squatter); err != nil {
		t.Fatal(err)
	}
	b.detach(ns, r) // now the name is free
	b.back("after the second Detach")
}

func TestHostNameIsAnAlternativeName(t *testing.T) {
	b := take(t, 4)
	ns := netnstest.Pod(t)
	r := b.record(ns, `{"type":"sriov"}`)
	b.attach(ns, &r)
	h := netnstest.Handle(t, ns)
	if err := h.LinkAddAltName(netnstest.Link(t, h, "net1"), b.vf.Netdev); err != nil {
		t.Fatal(err)
	}
	b.detach(ns, r)
	b.back("after Detach")
}

func TestProvisionedMACIsKept(t *testing.T) {
	for _, config := range []string{`{"type":"sriov"}`, `{"type":"sriov","mac":"02:00:00:00:0a:09"}`} {
		b := take(t, 5)
		pf, err := netlink.LinkByName("sriov0")
		if err != nil {
			t.Fatal(err)
		}
		given := net.HardwareAddr{2, 0, 0, 0, 0xd, 5}
		was := b.pf().Mac
		if err := netlink.LinkSetVfHardwareAddr(pf, b.vf.Index, given); err != nil {
			t.Fatal(err)
		}
		ns := netnstest.Pod(t)
		r := b.record(ns, config)
		b.attach(ns, &r)
		b.detach(ns, r)
		if now := b.pf().Mac; now.String() != given.String() {
			t.Errorf("%s: PF has %s, the provisioner had set %s", config, now, given)
		}
		// Take the address back and let the device announce its own.
		if err := netlink.LinkSetVfHardwareAddr(pf, b.vf.Index, make(net.HardwareAddr, 6)); err != nil {
			t.Fatal(err)
		}
		// An equal address would not reach the driver.
		for _, mac := range []net.HardwareAddr{given, was} {
			if err := netlink.LinkSetHardwareAddr(netnstest.Link(t, netnstest.Handle(t, nil), b.vf.Netdev), mac); err != nil {
				t.Fatal(err)
			}
		}
		b.back("after " + config)
	}
}

func TestVFWithoutNetdev(t *testing.T) {
	b := take(t, 6)
	rebind(t, b.vf.Addr, "vfio-pci")
	ns := netnstest.Pod(t)
	r := b.record(ns, withoutRates)
	if _, err := b.driver.Prior(b.ctx(), r.Attachment); err == nil || !strings.Contains(err.Error(), "mtu") {
		t.Errorf("an MTU for a userspace VF: %v", err)
	}
	r = b.record(ns, `{"type":"sriov","vlan":7,"mac":"02:00:00:00:0a:06","trust":"on"}`)
	before := world(t)
	l := b.attach(ns, &r)
	if i := b.pf(); l.Name != "net1" || l.Index != 0 || l.MAC != "02:00:00:00:0a:06" || i.Mac.String() != l.MAC || i.Vlan != 7 || i.Trust != 1 {
		t.Errorf("link %+v, PF %+v", l, i)
	}
	b.detach(ns, r)
	if now := world(t); now != before {
		t.Errorf("the world is\n%s\nand was\n%s", now, before)
	}
	rebind(t, b.vf.Addr, "")
	// Its driver has chosen a new MAC: only the rest can be compared.
	b.world = world(t)
}

// rebind gives the VF to driver, or to the one that the kernel picks.
func rebind(t *testing.T, a vf.Addr, driver string) {
	t.Helper()
	dir := filepath.Join("/sys/bus/pci/devices", a.String())
	for _, w := range [][2]string{{dir + "/driver/unbind", a.String()}, {dir + "/driver_override", driver + "\n"}, {"/sys/bus/pci/drivers_probe", a.String()}} {
		if err := os.WriteFile(w[0], []byte(w[1]), 0o200); err != nil {
			t.Fatal(err)
		}
	}
	for end := time.Now().Add(deadline); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if v, err := sys.VF(a); err == nil && (driver != "" && v.Driver == driver || driver == "" && v.Netdev != "") {
			return
		}
	}
	t.Fatalf("%s was not bound to %q", a, driver)
}
