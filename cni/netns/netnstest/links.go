package netnstest

import (
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	vns "github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

var counter atomic.Uint32

// Name returns a link name that no other call returns.
func Name(prefix string) string { return fmt.Sprintf("%s%d", prefix, counter.Add(1)) }

// Pod makes a network namespace with its loopback down and nothing else. It
// lives until the test ends or the file is closed.
func Pod(t testing.TB) *os.File {
	t.Helper()
	var ns *os.File
	done := make(chan error, 1)
	go func() { done <- fresh(&ns) }()
	if err := <-done; err != nil {
		t.Fatalf("make network namespace: %v", err)
	}
	t.Cleanup(func() { ns.Close() })
	return ns
}

// fresh makes a namespace on a locked thread, which stays locked, and so dies
// with its goroutine, if it cannot return.
func fresh(ns **os.File) error {
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer home.Close()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return err
	}
	if *ns, err = os.Open("/proc/thread-self/ns/net"); err != nil {
		return err
	}
	if err := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); err != nil {
		return err
	}
	runtime.UnlockOSThread()
	return nil
}

// Handle returns a second opinion on what is in ns (nil: the host's): a handle
// of another netlink library than the one under test.
func Handle(t testing.TB, ns *os.File) *netlink.Handle {
	t.Helper()
	at := vns.None()
	if ns != nil {
		at = vns.NsHandle(ns.Fd())
	}
	h, err := netlink.NewHandleAt(at, unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatalf("open netlink handle: %v", err)
	}
	t.Cleanup(h.Close)
	return h
}

// Veth makes a pair on the host, both ends up, to serve as a master and the far
// side of its wire. The pair goes when the test ends.
func Veth(t testing.TB) (master, wire netlink.Link) {
	t.Helper()
	h := Handle(t, nil)
	name := Name("mst")
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	if err := h.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: name + "w"}); err != nil {
		t.Fatalf("make veth %s: %v", name, err)
	}
	master, wire = Link(t, h, name), Link(t, h, name+"w")
	for _, l := range []netlink.Link{master, wire} {
		if err := h.LinkSetUp(l); err != nil {
			t.Fatalf("set up %s: %v", l.Attrs().Name, err)
		}
	}
	awaitUp(t, h, name)
	awaitUp(t, h, name+"w")
	// The namespace takes what is left of it when the binary ends.
	t.Cleanup(func() { _ = h.LinkDel(master) })
	return master, wire
}

// awaitUp waits until the link called name is operational: the kernel turns its
// queue on a moment after the carrier, and loses what is sent before.
func awaitUp(t testing.TB, h *netlink.Handle, name string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); Link(t, h, name).Attrs().OperState != netlink.OperUp; {
		if time.Now().After(deadline) {
			t.Fatalf("link %s does not come up", name)
		}
		time.Sleep(time.Millisecond)
	}
}

// Link reads the link called name, which must be there.
func Link(t testing.TB, h *netlink.Handle, name string) netlink.Link {
	t.Helper()
	l, err := h.LinkByName(name)
	if err != nil {
		t.Fatalf("read link %s: %v", name, err)
	}
	return l
}

// Absent fails the test if there is a link called name.
func Absent(t testing.TB, h *netlink.Handle, name string) {
	t.Helper()
	if l, err := h.LinkByName(name); err == nil {
		t.Errorf("link %s is still there: %+v", name, l.Attrs())
	}
}
