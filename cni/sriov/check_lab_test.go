//go:build lab

package sriov_test

import (
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/tendril-cni/tendril/cni/netns/netnstest"
)

func TestCheckLooksAtThePodAndAtThePF(t *testing.T) {
	b := take(t, 3)
	ns := netnstest.Pod(t)
	r := b.record(ns, withoutRates)
	r.Attachment.Addresses = address("10.9.0.1/24")
	b.attach(ns, &r)
	if err := b.driver.Check(b.ctx(), ns, r); err != nil {
		t.Error(err)
	}
	pf, err := netlink.LinkByName("sriov0")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetVfVlan(pf, b.vf.Index, 200); err != nil {
		t.Fatal(err)
	}
	h := netnstest.Handle(t, ns)
	net1 := netnstest.Link(t, h, "net1")
	addr, err := netlink.ParseAddr("10.9.0.1/24")
	if err != nil {
		t.Fatal(err)
	}
	if err := h.AddrDel(net1, addr); err != nil {
		t.Fatal(err)
	}
	err = b.driver.Check(b.ctx(), ns, r)
	for _, part := range []string{"vlan", "10.9.0.1/24 is not there"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("error does not say %q: %v", part, err)
		}
	}
	b.detach(ns, r)
	b.back("after Detach")
	if err := b.driver.Check(b.ctx(), ns, r); err == nil {
		t.Error("a VF that was given back passes CHECK")
	}
}
