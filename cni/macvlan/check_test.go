package macvlan_test

import (
	"context"
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/macvlan"
	"github.com/tendril-cni/tendril/cni/netns/netnstest"
)

func TestCheckSeesWhatIsGone(t *testing.T) {
	ctx, pod := context.Background(), netnstest.Pod(t)
	master, _ := netnstest.Veth(t)
	d := macvlan.New(slog.New(slog.DiscardHandler))
	a := netnstest.Attachment("macvlan", `{"type":"macvlan","master":"`+master.Attrs().Name+`"}`)
	a.Addresses = []cni.Address{{Prefix: netip.MustParsePrefix("192.0.2.5/24")}}
	a.Routes = []cni.Route{{Dst: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr("192.0.2.1")}}
	r := netnstest.MustAttach(t, d, pod, a)
	if err := d.Check(ctx, pod, r); err != nil {
		t.Fatal(err)
	}
	if err := netnstest.Handle(t, nil).LinkSetDown(master); err != nil {
		t.Fatal(err)
	}
	if err := d.Check(ctx, pod, r); err == nil || !strings.Contains(err.Error(), "master "+master.Attrs().Name+" is down") {
		t.Errorf("error = %v, want that the master is down", err)
	}
	h := netnstest.Handle(t, pod)
	if err := h.LinkDel(netnstest.Link(t, h, "net1")); err != nil {
		t.Fatal(err)
	}
	if err := d.Check(ctx, pod, r); err == nil || !strings.Contains(err.Error(), "no such link") {
		t.Errorf("error = %v, want that the link is gone", err)
	}
	if err := d.Check(ctx, nil, r); err == nil {
		t.Error("without its namespace the link passes CHECK")
	}
}
