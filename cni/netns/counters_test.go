package netns_test

import (
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tendril-cni/tendril/cni/netns"
	"github.com/tendril-cni/tendril/cni/netns/netnstest"
)

// TestCounters sends frames into one end of a wire and reads them at the other, and
// has another netlink library say the same.
func TestCounters(t *testing.T) {
	master, wire := netnstest.Veth(t)
	c, err := netns.Dial(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	before, err := c.Counters(master.Attrs().Index)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	frame := append([]byte{255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 9, 0x88, 0xb5}, make([]byte, 86)...)
	for range 3 {
		if err := unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: wire.Attrs().Index, Halen: 6}); err != nil {
			t.Fatal(err)
		}
	}
	var after netns.Counters
	for end := time.Now().Add(time.Minute); after.RxPackets < before.RxPackets+3; time.Sleep(time.Millisecond) {
		if after, err = c.Counters(master.Attrs().Index); err != nil || time.Now().After(end) {
			t.Fatalf("counters %+v, before %+v: %v", after, before, err)
		}
	}
	if after.RxBytes < before.RxBytes+300 {
		t.Errorf("counters %+v, before %+v", after, before)
	}
	// The kernel sends of itself too: only what both see between two looks counts.
	if s := netnstest.Link(t, netnstest.Handle(t, nil), master.Attrs().Name).Attrs().Statistics; s.RxPackets < after.RxPackets || s.TxBytes < after.TxBytes {
		t.Errorf("counters %+v, another library says %+v", after, s)
	}
	if _, err := c.Counters(1 << 20); !errors.Is(err, netns.ErrNotFound) {
		t.Errorf("of no link: %v", err)
	}
}
