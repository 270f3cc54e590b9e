package bridge_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

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
