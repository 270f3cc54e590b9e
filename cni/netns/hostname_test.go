package netns_test

import (
	"context"
	"testing"

	"github.com/tendril-cni/tendril/cni/netns"
	"github.com/tendril-cni/tendril/cni/netns/netnstest"
)

// A pod's link may have the name of a link of the host, above all eth0. Kernels
// before 6.13 refuse that at creation.
func TestCreateUnderANameThatTheHostHas(t *testing.T) {
	master, _ := netnstest.Veth(t)
	taken, _ := netnstest.Veth(t)
	pod := netnstest.Pod(t)
	c := dial(t, pod)
	name := taken.Attrs().Name
	l, err := c.Create(context.Background(), netns.Spec{
		Name: name, Kind: "macvlan", Parent: master.Attrs().Index, ParentInHost: true, Data: bridgeMode,
		Mark: netns.Mark("c1", "blue/storage", name), Setup: netns.Setup{Up: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	if l.Name != name || !l.Up() {
		t.Errorf("link is %+v, want %s, up", l, name)
	}
	links, err := c.Links()
	if err != nil {
		t.Fatal(err)
	}
	if len(links) != 2 {
		t.Errorf("pod has %v, want loopback and %s", links, name)
	}
	if removed, err := c.Remove(context.Background(), netns.Owner{Name: name, Kind: "macvlan", Mark: netns.Mark("c1", "blue/storage", name)}); err != nil || !removed {
		t.Errorf("removed=%v err=%v", removed, err)
	}
}
