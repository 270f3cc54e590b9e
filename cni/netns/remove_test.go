package netns_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tendril-cni/tendril/cni/netns"
	"github.com/tendril-cni/tendril/cni/netns/netnstest"
)

// passthru is a macvlan that its parent can have once only.
func passthru(name string, parent int) netns.Spec {
	mode := binary.NativeEndian.AppendUint32(nil, 8)
	return netns.Spec{
		Name: name, Kind: "macvlan", Parent: parent, ParentInHost: true, Mark: netns.Mark("c", "n", name),
		Data: []netns.Attr{{Type: unix.IFLA_MACVLAN_MODE, Value: mode}}, Setup: netns.Setup{Up: true},
	}
}

// Remove does not wait until the kernel has freed the memory of the link, but its
// parent is free again and its name is too.
func TestRemovedLinkIsGoneForItsParentToo(t *testing.T) {
	master, _ := netnstest.Veth(t)
	pods := []*netns.Conn{dial(t, netnstest.Pod(t)), dial(t, netnstest.Pod(t))}
	for i := range 12 {
		c := pods[i/2%2] // twice the same pod, then the other one
		s := passthru("net1", master.Attrs().Index)
		if _, err := c.Create(context.Background(), s); err != nil {
			t.Fatalf("after %d removals: %v", i, err)
		}
		if removed, err := c.Remove(context.Background(), owner(s)); err != nil || !removed {
			t.Fatalf("Remove number %d: %v, %v", i, removed, err)
		}
	}
}

// More removals at a time than may wait for the kernel.
func TestManyRemovalsAtATime(t *testing.T) {
	const links = 100
	master, _ := netnstest.Veth(t)
	pod := netnstest.Pod(t)
	c := dial(t, pod)
	for i := range links {
		if _, err := c.Create(context.Background(), spec(fmt.Sprintf("net%d", i), master)); err != nil {
			t.Fatal(err)
		}
	}
	errs := make([]error, links)
	var all sync.WaitGroup
	for i := range links {
		all.Go(func() {
			removed, err := c.Remove(context.Background(), owner(spec(fmt.Sprintf("net%d", i), master)))
			if !removed {
				err = errors.Join(err, fmt.Errorf("net%d was not there", i))
			}
			errs[i] = err
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	h := netnstest.Handle(t, pod)
	for i := range links {
		netnstest.Absent(t, h, fmt.Sprintf("net%d", i))
	}
}

func TestRemoveEndsWithItsContext(t *testing.T) {
	master, _ := netnstest.Veth(t)
	c := dial(t, netnstest.Pod(t))
	s := spec("net1", master)
	if _, err := c.Create(context.Background(), s); err != nil {
		t.Fatal(err)
	}
	ended, end := context.WithCancel(context.Background())
	end()
	// What became of the link is open; a removal that is tried again knows.
	if _, err := c.Remove(ended, owner(s)); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if _, err := c.Remove(context.Background(), owner(s)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Find(owner(s)); !errors.Is(err, netns.ErrNotFound) {
		t.Errorf("find after Remove: %v", err)
	}
}
