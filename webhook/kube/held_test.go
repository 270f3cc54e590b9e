package kube_test

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/tendril-cni/tendril/ipam"
	ipamv1alpha1 "github.com/tendril-cni/tendril/ipam/v1alpha1"
	"github.com/tendril-cni/tendril/webhook/validate"
)

// TestWhoHasAddresses is asked of the blocks of one space alone.
func TestWhoHasAddresses(t *testing.T) {
	w := newWorld(t)
	blocks := schema.GroupVersionResource{Group: ipamv1alpha1.Group, Version: ipamv1alpha1.Version, Resource: ipamv1alpha1.Resource}
	for _, space := range []string{"", "other"} {
		b := `{apiVersion: tendril.dev/v1alpha1, kind: AddressBlock, metadata: {name: "` + blockName(t, space) + `"}, spec: {space: "` + space + `", cell: 10.0.0.64/26, seq: 3, slots: [
  {slot: 1, seq: 1, node: one, uid: u}, {slot: 2, seq: 2, node: one, uid: u}, {slot: 5, seq: 3, claim: blue/web-0, interface: net1}, {slot: 6, seq: 3, until: "2030-01-01T00:00:00Z"}]}}`
		w.make(blocks, b)
	}
	c := w.cache()
	addr := netip.MustParseAddr
	got := c.Facts().Held("", []validate.Span{{From: addr("10.0.0.66"), To: addr("10.0.0.200")}})
	want := []validate.Held{
		{Owner: "claim blue/web-0", Addresses: []netip.Addr{addr("10.0.0.69")}},
		{Owner: "node one", Addresses: []netip.Addr{addr("10.0.0.66")}},
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
	if got := c.Facts().Held("nobody's", []validate.Span{{From: addr("0.0.0.0"), To: addr("255.255.255.255")}}); len(got) != 0 {
		t.Errorf("%v", got)
	}
}

func blockName(t *testing.T, space string) string {
	t.Helper()
	cell, err := ipam.ParseCell("10.0.0.64/26")
	if err != nil {
		t.Fatal(err)
	}
	return ipamv1alpha1.Name(space, cell)
}
