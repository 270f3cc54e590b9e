package addresses

import (
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/tendril-cni/tendril/cmd/tendrild/node"
	"github.com/tendril-cni/tendril/cni/netns/netnstest"
	"github.com/tendril-cni/tendril/ipam/kube"
	"github.com/tendril-cni/tendril/ipam/v1alpha1"
	lab "github.com/tendril-cni/tendril/tests/lab/kube"
)

// world is an API server, a wire, and the nodes on it.
func world(t *testing.T, nodes ...string) (*cluster, []*machine) {
	t.Helper()
	c, err := start()
	if err != nil {
		t.Fatal(err)
	}
	master, _ := netnstest.Veth(t)
	var out []*machine
	for _, n := range nodes {
		out = append(out, newMachine(t, c, n, master.Attrs().Name).boot())
	}
	return c, out
}

func (m *machine) whereabouts(rest string) string {
	return fmt.Sprintf(`{"cniVersion":"0.3.1","type":"macvlan","master":%q,"mode":"bridge","ipam":{"type":"whereabouts",%s}}`, m.master, rest)
}

// TestInvariant5WhereaboutsDefinitionsWorkUnchanged: two nodes, a definition as whereabouts'
// users have it, with all that it may say.
func TestInvariant5WhereaboutsDefinitionsWorkUnchanged(t *testing.T) {
	c, m := world(t, "wa-1", "wa-2")
	c.define(t, "wa", "red", m[0].whereabouts(`"range":"192.0.2.0/28","exclude":["192.0.2.1/32"],"gateway":"192.0.2.14","network_name":"wa",
		"datastore":"kubernetes","kubernetes":{"kubeconfig":"/etc/cni/net.d/whereabouts.d/whereabouts.kubeconfig"},"log_file":"/tmp/whereabouts.log","log_level":"debug",
		"ipRanges":[{"range":"fd00:1::/64"}]`))
	seen := map[netip.Prefix]string{}
	var pods []*pod
	for i := range 4 {
		on := m[i%2]
		p := on.pod("wa", fmt.Sprintf("p%d", i), "red")
		pods = append(pods, p)
		got := on.mustAdd(p, "net1")
		if len(got) != 2 {
			t.Fatalf("pod %d has %v, want one address of each range", i, got)
		}
		for _, a := range got {
			if seen[a] != "" {
				t.Errorf("%s is both pod %d's and %s's", a, i, seen[a])
			}
			seen[a] = p.name
			if a.Addr().Is4() && (a.Bits() != 28 || a.Addr().Less(netip.MustParseAddr("192.0.2.2"))) {
				t.Errorf("pod %d has %s", i, a)
			}
		}
	}
	for i, p := range pods {
		if _, err := m[i%2].call("CHECK", p); err != nil {
			t.Error(err)
		}
		m[i%2].mustDel(p)
	}
}

// TestAddressesWithoutTheAPIServer: ADD works while the node has slots, DEL always.
func TestAddressesWithoutTheAPIServer(t *testing.T) {
	c, m := world(t, "down-1")
	c.define(t, "down", "roomy", m[0].whereabouts(`"range":"10.0.0.0/16","network_name":"down"`))
	c.define(t, "down", "scarce", m[0].whereabouts(`"range":"10.9.0.0/29","network_name":"down"`))
	second, third := m[0].pod("down", "second", "roomy"), m[0].pod("down", "third", "scarce")
	// Watches tell things in order: who knows this one knows the others.
	first := m[0].pod("down", "first", "roomy")
	m[0].mustAdd(first, "net1")
	c.api.Stop()
	got, err := m[0].add(second, "net1")
	_, scarce := m[0].add(third, "net1")
	m[0].mustDel(first)
	m[0].mustDel(third)
	m[0].mustDel(second)
	if err := c.api.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err != nil || len(got) != 1 {
		t.Errorf("with slots left: %v, %v", got, err)
	}
	if code, text := refused(t, scarce); code != 11 {
		t.Errorf("without slots: code %d, %s; want 11, try again later", code, text)
	}
	eventually(t, "an address after the API server is back", func() (string, bool) {
		third.sandboxed(t)
		_, err := m[0].add(third, "net1")
		return fmt.Sprint(err), err == nil
	})
	m[0].mustDel(third)
}

// TestRebootedNodeGivesAPodItsAddressAgain: the kubelet makes new sandboxes for
// the pods that it had, in an order of its own.
func TestRebootedNodeGivesAPodItsAddressAgain(t *testing.T) {
	c, m := world(t, "boot-1")
	c.define(t, "boot", "red", m[0].whereabouts(`"range":"10.0.0.0/16","network_name":"boot"`))
	var pods []*pod
	var had []string
	for i := range 3 {
		p := m[0].pod("boot", fmt.Sprintf("p%d", i), "red")
		pods = append(pods, p)
		had = append(had, fmt.Sprint(m[0].mustAdd(p, "net1")))
	}
	m[0].halt()
	m[0].reboot()
	m[0].boot()
	for _, i := range []int{2, 0, 1} {
		pods[i].sandboxed(t)
		if got := fmt.Sprint(m[0].mustAdd(pods[i], "net1")); got != had[i] {
			t.Errorf("pod %d had %s and has %s after the reboot", i, had[i], got)
		}
	}
}

// TestLastAddressOfARange: all are given, one more is told who has them, and one
// DEL later another node has it.
func TestLastAddressOfARange(t *testing.T) {
	c, m := world(t, "last-1", "last-2", "last-3")
	c.define(t, "last", "red", m[0].whereabouts(`"range":"10.0.0.0/29","network_name":"last"`))
	var pods []*pod
	for i := range 6 {
		p := m[i%3].pod("last", fmt.Sprintf("p%d", i), "red")
		m[i%3].mustAdd(p, "net1")
		pods = append(pods, p)
	}
	late := m[1].pod("last", "late", "red")
	_, err := m[1].add(late, "net1")
	code, text := refused(t, err)
	if code != 11 {
		t.Errorf("code %d, want 11", code)
	}
	t.Log(text)
	m[0].mustDel(pods[0])
	eventually(t, "the address that was given back", func() (string, bool) {
		_, err := m[1].add(late, "net1")
		return fmt.Sprint(err), err == nil
	})
}

// TestUninstallGivesTheNodesAddressesBack: at once, those that cool down included.
func TestUninstallGivesTheNodesAddressesBack(t *testing.T) {
	c, m := world(t, "bye-1")
	c.define(t, "bye", "red", m[0].whereabouts(`"range":"10.0.0.0/16","network_name":"bye"`))
	p := m[0].pod("bye", "p", "red")
	m[0].mustAdd(p, "net1")
	m[0].mustDel(p)
	m[0].halt()
	if n := c.taken(t, "bye"); n == 0 {
		t.Fatal("the node has no window that it could give back")
	}
	if err := node.Uninstall(t.Context(), m[0].config(slog.New(slog.DiscardHandler))); err != nil {
		t.Fatal(err)
	}
	if n := c.taken(t, "bye"); n != 0 {
		t.Errorf("%d addresses are still the node's", n)
	}
}

// taken counts the slots of a space that somebody has.
func (c *cluster) taken(t *testing.T, space string) (n int) {
	t.Helper()
	config, err := c.api.RESTConfig(lab.Admin)
	if err != nil {
		t.Fatal(err)
	}
	blocks, err := kube.NewBlocks(config)
	if err == nil {
		err = blocks.List(t.Context(), func(b *v1alpha1.AddressBlock) error {
			if b.Spec.Space == space {
				n += len(b.Spec.Slots)
			}
			return nil
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestInvariant5LostRecordsAreFoundOnTheWire: the journal of a running node is lost,
// and its copy is older than the last pod. That pod's address is not given again.
func TestInvariant5LostRecordsAreFoundOnTheWire(t *testing.T) {
	c, m := world(t, "lost-1")
	c.define(t, "lost", "red", m[0].whereabouts(`"range":"10.0.0.0/16","network_name":"lost"`))
	m[0].mustAdd(m[0].pod("lost", "known", "red"), "net1")
	m[0].halt()
	old, err := os.ReadFile(m[0].path("state/journal.db"))
	if err != nil {
		t.Fatal(err)
	}
	m[0].boot()
	forgotten := m[0].mustAdd(m[0].pod("lost", "forgotten", "red"), "net1")
	m[0].halt()
	if err := os.Remove(m[0].path("run/journal.db")); err != nil {
		t.Fatal(err)
	}
	m[0].write("state/journal.db", string(old))
	m[0].boot()
	if got := m[0].mustAdd(m[0].pod("lost", "next", "red"), "net1"); fmt.Sprint(got) != "[10.0.0.3/16]" || fmt.Sprint(forgotten) != "[10.0.0.2/16]" {
		t.Errorf("the forgotten pod has %v, the next one %v", forgotten, got)
	}
}

// TestSeveralInterfacesInOneRange: an ADD that needs several addresses of a range
// gets them all or none, whatever the node has of it, and is told soon when there
// are not as many.
func TestSeveralInterfacesInOneRange(t *testing.T) {
	c, m := world(t, "several-1", "several-2")
	c.define(t, "several", "red", m[0].whereabouts(`"range":"10.0.0.0/29","network_name":"several"`))
	c.define(t, "several", "twice", m[0].whereabouts(`"ipRanges":[{"range":"10.0.0.0/29"},{"range":"10.0.0.0/29"}],"network_name":"several"`))
	three, two := m[0].pod("several", "three", "red,red,red"), m[1].pod("several", "two", "twice")
	m[0].mustAdd(three, "net3")
	if got := m[1].mustAdd(two, "net1"); len(got) != 2 {
		t.Errorf("two ranges gave %v", got)
	}
	late := m[0].pod("several", "late", "red,red")
	_, err := m[0].add(late, "net1")
	if code, text := refused(t, err); code != 11 || !strings.Contains(text, "10.0.0.1-10.0.0.6") {
		t.Errorf("one address is left of six, and two were asked for: code %d: %s", code, text)
	}
	m[1].mustDel(two)
	eventually(t, "the addresses that were given back", func() (string, bool) {
		_, err := m[0].add(late, "net2")
		return fmt.Sprint(err), err == nil
	})
}
