//go:build lab

package sriov_test

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netns/netnstest"
	"github.com/tendril-cni/tendril/cni/refusal"
)

func TestInvariant9AttachRefusesWhatTheDriverCannot(t *testing.T) {
	rows := []struct{ name, config, field, value string }{
		{"protocol", `{"type":"sriov","vlan":7,"vlanProto":"802.1ad"}`, "vlanProto", "802.1ad"},
		{"protocol, with more", `{"type":"sriov","vlan":7,"vlanProto":"802.1ad","mac":"02:00:00:00:0a:02","trust":"on"}`, "vlanProto", "802.1ad"},
		{"link state", `{"type":"sriov","vlan":7,"mac":"02:00:00:00:0a:02","link_state":"disable"}`, "link_state", "disable"},
		{"guaranteed rate", `{"type":"sriov","vlan":7,"spoofchk":"off","min_tx_rate":10,"max_tx_rate":20}`, "min_tx_rate", "10"},
		{"MTU", `{"type":"sriov","vlan":7,"mac":"02:00:00:00:0a:02","mtu":60000}`, "mtu", "60000"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			b := take(t, 0)
			ns := netnstest.Pod(t)
			r := b.record(ns, row.config)
			b.prior(&r)
			_, err := b.driver.Attach(b.ctx(), ns, r)
			var ref *refusal.Refusal
			if !errors.As(err, &ref) || ref.Field != row.field || !strings.Contains(ref.Value, row.value) || ref.Object == "" || ref.Allowed == "" {
				t.Errorf("got %v", err)
			}
			if err := b.driver.Detach(b.ctx(), ns, r); err != nil {
				t.Errorf("Detach: %v", err)
			}
			b.back("after Detach")
		})
	}
}

func TestInterfaceNameIsTaken(t *testing.T) {
	b := take(t, 0)
	ns := netnstest.Pod(t)
	if err := netnstest.Handle(t, ns).LinkAdd(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: "net1"}}); err != nil {
		t.Fatal(err)
	}
	r := b.record(ns, withoutRates)
	b.prior(&r)
	_, err := b.driver.Attach(b.ctx(), ns, r)
	var ref *refusal.Refusal
	if !errors.As(err, &ref) || ref.Field != "interface" {
		t.Errorf("got %v", err)
	}
	b.detach(ns, r)
	b.back("after Detach")
}

func TestInvariant9PriorRefuses(t *testing.T) {
	b := take(t, 0)
	ns := netnstest.Pod(t)
	held := b.record(ns, `{"type":"sriov"}`)
	b.attach(ns, &held)
	rows := []struct{ name, device, config, field, say string }{
		{"no device", "", `{"type":"sriov"}`, "deviceID", "dddd:bb:dd.f"},
		{"unknown address", "0000:7f:10.0", `{"type":"sriov"}`, "deviceID", "0000:7f:10.0"},
		{"a PF", b.vf.PF.String(), `{"type":"sriov"}`, "deviceID", "not a virtual function"},
		{"in another namespace", b.vf.Addr.String(), `{"type":"sriov"}`, "deviceID", "another network namespace"},
		{"VLAN", b.vf.Addr.String(), `{"type":"sriov","vlan":4095}`, "vlan", "4095"},
		{"group address", b.vf.Addr.String(), `{"type":"sriov","mac":"01:00:5e:00:00:01"}`, "mac", "01:00:5e:00:00:01"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			a := b.record(ns, row.config).Attachment
			a.Device = row.device
			_, err := b.driver.Prior(b.ctx(), a)
			var ref *refusal.Refusal
			if !errors.As(err, &ref) || ref.Field != row.field || !strings.Contains(ref.Error(), row.say) {
				t.Errorf("got %v", err)
			}
		})
	}
	b.detach(ns, held)
}

func TestInvariant4OneOwner(t *testing.T) {
	b := take(t, 1)
	ns, other := netnstest.Pod(t), netnstest.Pod(t)
	late := b.record(other, withoutRates) // planned, never attached
	b.prior(&late)
	r := b.record(ns, withoutRates)
	b.attach(ns, &r)
	held := world(t)
	if _, err := b.driver.Attach(b.ctx(), other, late); err == nil {
		t.Fatal("attached a VF that is in another pod")
	}
	for name, where := range map[string]*os.File{"its own namespace": other, "the owner's": ns} {
		if err := b.driver.Detach(b.ctx(), where, late); where == other && err != nil {
			t.Errorf("Detach of an attachment that never was, in %s: %v", name, err)
		}
		if now := world(t); now != held {
			t.Fatalf("Detach in %s touched the owner's VF:\n%s\nwas\n%s", name, now, held)
		}
	}
	if l := netnstest.Link(t, netnstest.Handle(t, ns), "net1"); l.Attrs().HardwareAddr.String() != r.Link.MAC {
		t.Errorf("the owner's link is %+v", l.Attrs())
	}
	b.detach(ns, r)
	b.back("after the owner's Detach")
}

func TestInvariant4MarkedVFIsRefused(t *testing.T) {
	b := take(t, 1)
	ns := netnstest.Pod(t)
	r := b.record(ns, withoutRates)
	b.attach(ns, &r)
	_ = ns.Close()
	b.eventually("the kernel's return of the VF", func() error {
		if names, err := sys.Netdevs(b.vf.Addr); err != nil || len(names) == 0 {
			return errors.Join(err, errors.New("not on the host"))
		}
		return nil
	})
	next := b.record(netnstest.Pod(t), `{"type":"sriov"}`)
	var ref *refusal.Refusal
	if _, err := b.driver.Prior(b.ctx(), next.Attachment); !errors.As(err, &ref) || !strings.Contains(ref.Error(), r.Attachment.ContainerID) {
		t.Errorf("got %v", err)
	}
	b.detach(nil, r)
	b.back("after Detach")
}

func TestInvariant7SlaveIsRefused(t *testing.T) {
	b := take(t, 1)
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: netnstest.Name("br")}}
	if err := netlink.LinkAdd(bridge); err != nil {
		t.Fatal(err)
	}
	l := netnstest.Link(t, netnstest.Handle(t, nil), b.vf.Netdev)
	if err := netlink.LinkSetMaster(l, bridge); err != nil {
		t.Fatal(err)
	}
	var ref *refusal.Refusal
	if _, err := b.driver.Prior(b.ctx(), b.record(netnstest.Pod(t), `{"type":"sriov"}`).Attachment); !errors.As(err, &ref) || !strings.Contains(ref.Error(), "bridge") {
		t.Errorf("got %v", err)
	}
	if err := errors.Join(netlink.LinkSetNoMaster(l), netlink.LinkDel(bridge)); err != nil {
		t.Fatal(err)
	}
}

func TestDetachOfAVFThatIsGone(t *testing.T) {
	b := take(t, 1)
	ns := netnstest.Pod(t)
	r := b.record(ns, withoutRates)
	b.prior(&r)
	r.Prior = []byte(strings.ReplaceAll(string(r.Prior), b.vf.Addr.String(), "0000:7f:1f.7"))
	if err := b.driver.Detach(b.ctx(), ns, r); err != nil {
		t.Error(err)
	}
	if err := b.driver.Detach(b.ctx(), ns, cni.Record{Attachment: r.Attachment}); err != nil {
		t.Errorf("without prior state: %v", err)
	}
}

func TestVLANsAreSeparate(t *testing.T) {
	benches := []*bench{take(t, 0), take(t, 1), take(t, 2)}
	a := benches[0]
	type guest struct {
		ns *os.File
		r  cni.Record
		ip string
	}
	var guests []guest
	for i, vlan := range []string{"100", "100", "200"} {
		b := benches[i]
		ns := netnstest.Pod(t)
		r := b.record(ns, `{"type":"sriov","vlan":`+vlan+`}`)
		ip := "10.8.0." + string(rune('1'+i))
		r.Attachment.Addresses = address(ip + "/24")
		b.attach(ns, &r)
		guests = append(guests, guest{ns, r, ip})
	}
	for _, g := range guests {
		listen(t, g.ns, g.ip)
	}
	a.eventually("VLAN 100 to VLAN 100", func() error { return dial(guests[0].ns, guests[1].ip) })
	// The third VF must have carrier, or its silence would prove nothing.
	h := netnstest.Handle(t, guests[2].ns)
	a.eventually("carrier of the third VF", func() error {
		if netnstest.Link(t, h, "net1").Attrs().OperState != netlink.OperUp {
			return errors.New("no carrier")
		}
		return nil
	})
	if err := dial(guests[2].ns, guests[0].ip); err == nil {
		t.Error("VLAN 200 reached VLAN 100")
	}
	slices.Reverse(guests)
	for _, g := range guests {
		a.detach(g.ns, g.r)
	}
	a.back("after all Detaches")
}
