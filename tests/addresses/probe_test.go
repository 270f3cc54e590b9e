package addresses

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tendril-cni/tendril/cni/netns/netnstest"
)

// occupied is a wire at whose far end somebody has addresses.
func occupied(t *testing.T, addresses ...string) (master string) {
	t.Helper()
	near, far := netnstest.Veth(t)
	for _, text := range addresses {
		a, err := netlink.ParseAddr(text)
		if err == nil {
			a.Flags = 0x02 // IFA_F_NODAD
			err = netlink.AddrAdd(far, a)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return near.Attrs().Name
}

// TestAddressThatSomethingElseHasIsSetAside: a pod whose address is in use on the
// wire gets another in the same ADD, with an event, and nobody gets that one.
func TestAddressThatSomethingElseHasIsSetAside(t *testing.T) {
	c, err := start()
	if err != nil {
		t.Fatal(err)
	}
	m := newMachine(t, c, "probe-1", occupied(t, "192.0.2.1/28", "192.0.2.2/28", "fd00:9::1/64")).boot()
	c.define(t, "probe", "red", fmt.Sprintf(`{"type":"macvlan","master":%q,"ipam":{"type":"tendril","network":"probe","probe":"always",
		"ranges":[{"subnet":"192.0.2.0/28"},{"subnet":"fd00:9::/64"}]}}`, m.master))
	p := m.pod("probe", "p", "red")
	if got := fmt.Sprint(m.mustAdd(p, "net1")); got != "[192.0.2.3/28 fd00:9::2/64]" {
		t.Errorf("pod has %s", got)
	}
	eventually(t, "the events", func() (string, bool) {
		list, err := c.client.CoreV1().Events("probe").List(t.Context(), metav1.ListOptions{FieldSelector: "reason=AddressConflict"})
		seen := fmt.Sprint(err)
		for _, e := range list.Items {
			seen += "\n" + e.Message
		}
		return seen, strings.Contains(seen, "192.0.2.1 of network probe/red") && strings.Contains(seen, "192.0.2.2") && strings.Contains(seen, "fd00:9::1")
	})
	late := m.pod("probe", "late", `[{"name":"red","ips":["192.0.2.1"]}]`)
	_, err = m.add(late, "net1")
	if code, text := refused(t, err); code != 7 || !strings.Contains(text, "ips[0]") || !strings.Contains(text, "192.0.2.1") {
		t.Errorf("asking for what is set aside: code %d, %s", code, text)
	} else {
		t.Log(text)
	}
	m.mustDel(p)
}

// TestClaimsAreNotProbed: a virtual machine that migrates has its address in two
// pods, and keeps it.
func TestClaimsAreNotProbed(t *testing.T) {
	c, m := world(t, "vm-1", "vm-2")
	c.define(t, "vm", "red", fmt.Sprintf(`{"type":"macvlan","master":%q,"mode":"bridge","ipam":{"type":"tendril","network":"vm","probe":"always","ranges":[{"subnet":"192.0.2.0/24"}]}}`, m[0].master))
	c.claim(t, "vm", "disk")
	source, target := m[0].pod("vm", "source", `[{"name":"red","ipam-claim-reference":"disk"}]`), m[1].pod("vm", "target", `[{"name":"red","ipam-claim-reference":"disk"}]`)
	one, two := m[0].mustAdd(source, "net1"), m[1].mustAdd(target, "net1")
	if len(one) != 1 || fmt.Sprint(one) != fmt.Sprint(two) {
		t.Errorf("source has %v, target %v", one, two)
	}
	m[0].mustDel(source)
	source.sandboxed(t)
	if again := m[0].mustAdd(source, "net1"); fmt.Sprint(again) != fmt.Sprint(one) {
		t.Errorf("the claim had %v and has %v", one, again)
	}
	missing := m[0].pod("vm", "missing", `[{"name":"red","ipam-claim-reference":"none"}]`)
	_, err := m[0].add(missing, "net1")
	if code, text := refused(t, err); code != 7 || !strings.Contains(text, "ipam-claim-reference") {
		t.Errorf("a claim that is not there: code %d, %s", code, text)
	}
}

// TestStickyNetworksKeepTheAddressOfAnOrdinal: the next pod of the same name, on
// another node, has the address of the one before.
func TestStickyNetworksKeepTheAddressOfAnOrdinal(t *testing.T) {
	c, m := world(t, "set-1", "set-2")
	c.define(t, "set", "red", fmt.Sprintf(`{"type":"macvlan","master":%q,"mode":"bridge","ipam":{"type":"tendril","network":"set","sticky":true,"ranges":[{"subnet":"192.0.2.0/24"}]}}`, m[0].master))
	first := m[0].ordinal("set", "db-0", "red")
	one := m[0].mustAdd(first, "net1")
	m[0].mustDel(first)
	if err := c.client.CoreV1().Pods("set").Delete(context.Background(), "db-0", metav1.DeleteOptions{GracePeriodSeconds: new(int64)}); err != nil {
		t.Fatal(err)
	}
	stranger := m[1].pod("set", "web", "red")
	if got := m[1].mustAdd(stranger, "net1"); fmt.Sprint(got) == fmt.Sprint(one) {
		t.Errorf("a stranger has %v, the ordinal's", got)
	}
	if two := m[1].mustAdd(m[1].ordinal("set", "db-0", "red"), "net1"); fmt.Sprint(two) != fmt.Sprint(one) {
		t.Errorf("db-0 had %v and has %v", one, two)
	}
}
