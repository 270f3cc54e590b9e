package bridge_test

import (
	"errors"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/bridge"
	"github.com/tendril-cni/tendril/cni/netns/netnstest"
)

// rules counts our rules of one family on the host.
func rules(t *testing.T, family nftables.TableFamily, chain string) int {
	t.Helper()
	c, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	table := &nftables.Table{Name: "tendril", Family: family}
	list, err := c.GetRules(table, &nftables.Chain{Name: chain, Table: table})
	if err != nil && !strings.Contains(err.Error(), "no such file") {
		t.Fatal(err)
	}
	return len(list)
}

// TestRulesComeAndGoWithThePort: masquerade for both families, and forged frames.
func TestRulesComeAndGoWithThePort(t *testing.T) {
	pod, d := netnstest.Pod(t), driver()
	a, _ := attachment(t, `{"bridge":"%s","isGateway":true,"ipMasq":true,"macspoofchk":true}`, "10.9.0.5/24", "2001:db8:9::5/64")
	r := guarded(t, d, pod, a)
	if n, m := rules(t, nftables.TableFamilyINet, "masquerade"), rules(t, nftables.TableFamilyBridge, "forgeries"); n != 2 || m != 1 {
		t.Errorf("%d and %d rules, want 2 and 1", n, m)
	}
	other, _ := attachment(t, `{"bridge":"%s","ipMasq":true}`, "10.9.1.5/24")
	netnstest.MustAttach(t, d, netnstest.Pod(t), other)
	for range 2 {
		if err := d.Detach(ctx, nil, r); err != nil {
			t.Fatal(err)
		}
	}
	if n, m := rules(t, nftables.TableFamilyINet, "masquerade"), rules(t, nftables.TableFamilyBridge, "forgeries"); n != 1 || m != 0 {
		t.Errorf("%d and %d rules are left, want the other pod's", n, m)
	}
}

// guarded attaches with macspoofchk where the kernel can.
func guarded(t *testing.T, d *bridge.Driver, pod *os.File, a cni.Attachment) cni.Record {
	t.Helper()
	r, err := netnstest.Attach(d, pod, a)
	if errors.Is(err, unix.EOPNOTSUPP) {
		netnstest.Refused(t, err, "macspoofchk", "nf_tables")
		if err := d.Detach(ctx, pod, r); err != nil {
			t.Fatal(err)
		}
		if os.Getenv("CI") != "" {
			t.Fatal("this kernel has no nf_tables for bridges, and in CI nothing is skipped")
		}
		t.Skip("this kernel has no nf_tables for bridges")
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestForgedFramesAreDropped: a pod under macspoofchk is heard by its neighbour with
// its own hardware address alone; one without it, with any.
func TestForgedFramesAreDropped(t *testing.T) {
	d, pod, free, ear := driver(), netnstest.Pod(t), netnstest.Pod(t), netnstest.Pod(t)
	a, name := attachment(t, `{"bridge":"%s","macspoofchk":true}`)
	r := guarded(t, d, pod, a)
	link := []string{r.Link.Name}
	for _, ns := range []*os.File{free, ear} {
		a := complete(t, netnstest.Attachment("bridge", `{"bridge":"`+name+`"}`))
		link = append(link, netnstest.MustAttach(t, d, ns, a).Link.Name)
	}
	one, other, b := netnstest.Listen(t, pod, link[0]), netnstest.Listen(t, free, link[1]), netnstest.Listen(t, ear, link[2])
	forged := net.HardwareAddr{2, 0, 0, 0, 0xf, 0xf}
	for _, c := range []struct {
		from  *netnstest.Station
		heard bool
	}{{one, false}, {other, true}} {
		if got := b.Hears("forged", "own", func() {
			c.from.Say(forged, netnstest.Everybody, "forged")
			c.from.Say(c.from.MAC, netnstest.Everybody, "own")
		}); got != c.heard {
			t.Errorf("a forged frame is heard: %v, want %v", got, c.heard)
		}
	}
}
