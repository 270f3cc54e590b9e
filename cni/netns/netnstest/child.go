package netnstest

import (
	"context"
	"net/netip"
	"strings"
	"testing"

	"github.com/tendril-cni/tendril/cni"
)

// Checked checks that the Check of a link on a master of the host, by the driver
// of that kind, sees a master that is down, a link that is gone and a namespace
// that is.
func Checked(t *testing.T, kind string, d interface {
	cni.Driver
	cni.Checker
}) {
	t.Helper()
	ctx, pod := context.Background(), Pod(t)
	master, _ := Veth(t)
	a := Attachment(kind, `{"type":"`+kind+`","master":"`+master.Attrs().Name+`"}`)
	a.Addresses = []cni.Address{{Prefix: netip.MustParsePrefix("192.0.2.5/24")}}
	a.Routes = []cni.Route{{Dst: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr("192.0.2.1")}}
	r := MustAttach(t, d, pod, a)
	if err := d.Check(ctx, pod, r); err != nil {
		t.Fatal(err)
	}
	if err := Handle(t, nil).LinkSetDown(master); err != nil {
		t.Fatal(err)
	}
	if err := d.Check(ctx, pod, r); err == nil || !strings.Contains(err.Error(), "master "+master.Attrs().Name+" is down") {
		t.Errorf("error = %v, want that the master is down", err)
	}
	h := Handle(t, pod)
	if err := h.LinkDel(Link(t, h, "net1")); err != nil {
		t.Fatal(err)
	}
	if err := d.Check(ctx, pod, r); err == nil || !strings.Contains(err.Error(), "no such link") {
		t.Errorf("error = %v, want that the link is gone", err)
	}
	if err := d.Check(ctx, nil, r); err == nil {
		t.Error("without its namespace the link passes CHECK")
	}
}
