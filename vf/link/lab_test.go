//go:build lab

package link_test

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tendril-cni/tendril/cni/refusal"
	"github.com/tendril-cni/tendril/vf/link"
)

var vf6 = link.Target{PF: "sriov1", Driver: "igb", Index: 6}

// TestKernel sets, reads and restores VF 6 of sriov1, and lets another netlink
// library say what is there.
func TestKernel(t *testing.T) {
	before, err := link.Read(vf6)
	if err != nil {
		t.Fatal(err)
	}
	wanted := link.Change{VLAN: &link.VLAN{ID: 77, QoS: 5, Proto: link.Proto8021Q}, SpoofChk: ptr(false), Trust: ptr(true), LinkState: ptr("auto")}
	if err := link.Apply(context.Background(), vf6, wanted); err != nil {
		t.Fatal(err)
	}
	l, err := netlink.LinkByName("sriov1")
	if err != nil {
		t.Fatal(err)
	}
	if i := l.Attrs().Vfs[6]; i.ID != 6 || i.Vlan != 77 || i.Qos != 5 || i.Spoofchk || i.Trust != 1 {
		t.Errorf("%+v", i)
	}
	undo := link.Change{VLAN: &before.VLAN, SpoofChk: before.SpoofChk, Trust: before.Trust}
	if err := link.Apply(context.Background(), vf6, undo); err != nil {
		t.Fatal(err)
	}
	after, err := link.Read(vf6)
	if d := cmp.Diff(before, after); err != nil || d != "" {
		t.Errorf("%v (-before +after):\n%s", err, d)
	}
}

func TestInvariant9KernelRefusals(t *testing.T) {
	before, err := link.Read(vf6)
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]link.Change{
		"vlanProto":   {VLAN: &link.VLAN{ID: 7, Proto: link.Proto8021AD}},
		"link_state":  {LinkState: ptr(link.StateEnable)},
		"min_tx_rate": {Rates: &link.Rates{Min: 10}},
		"mac":         {MAC: ptr("01:00:5e:00:00:01")},
	}
	for field, c := range rows {
		var ref *refusal.Refusal
		if err := link.Apply(context.Background(), vf6, c); !errors.As(err, &ref) || ref.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	after, err := link.Read(vf6)
	if d := cmp.Diff(before, after); err != nil || d != "" {
		t.Errorf("%v (-before +after):\n%s", err, d)
	}
}

func TestKernelWithoutSuchVFOrPF(t *testing.T) {
	if _, err := link.Read(link.Target{PF: "sriov1", Index: 7}); !errors.Is(err, link.ErrNoVF) {
		t.Errorf("VF 7: %v", err)
	}
	if _, err := link.Read(link.Target{PF: "lo"}); !errors.Is(err, link.ErrNoVF) {
		t.Errorf("lo: %v", err)
	}
	if _, err := link.Read(link.Target{PF: "nosuchpf"}); !errors.Is(err, unix.ENODEV) {
		t.Errorf("absent PF: %v", err)
	}
}
