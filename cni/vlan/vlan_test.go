package vlan_test

import (
	"context"
	"log/slog"
	"testing"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netns/netnstest"
	"github.com/tendril-cni/tendril/cni/vlan"
)

func TestMain(m *testing.M) { netnstest.Main(m) }

var (
	_   cni.Driver = (*vlan.Driver)(nil)
	ctx            = context.Background()
)

func driver() *vlan.Driver { return vlan.New(slog.New(slog.DiscardHandler)) }

// TestInvariant9PriorRefuses needs no VLANs in the kernel.
func TestInvariant9PriorRefuses(t *testing.T) {
	master, _ := netnstest.Veth(t)
	name := master.Attrs().Name
	for what, test := range map[string]struct {
		conf, mac, field string
		words            []string
	}{
		"no master":      {`{"vlanId":5}`, "", "master", nil},
		"master unknown": {`{"master":"nosuch0","vlanId":5}`, "", "master", []string{"nosuch0", "on the host"}},
		"id":             {`{"master":"` + name + `","vlanId":4095}`, "", "vlanId", []string{"4095", "0..4094"}},
		"negative id":    {`{"master":"` + name + `","vlanId":-1}`, "", "vlanId", nil},
		"mtu":            {`{"master":"` + name + `","vlanId":5,"mtu":1501}`, "", "mtu", []string{"0..1500", name}},
		"mac":            {`{"master":"` + name + `","vlanId":5}`, "02:00:00:00:00:01", "mac", []string{"macvlan"}},
	} {
		t.Run(what, func(t *testing.T) {
			a := netnstest.Attachment("vlan", test.conf)
			a.MAC = test.mac
			_, err := driver().Prior(ctx, a)
			netnstest.Refused(t, err, test.field, test.words...)
		})
	}
}
