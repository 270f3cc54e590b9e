package probe_test

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tendril-cni/tendril/cni/netns/netnstest"
	"github.com/tendril-cni/tendril/ipam/probe"
)

func TestMain(m *testing.M) { netnstest.Main(m) }

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// own puts an address on a link, in use from now on.
func own(t *testing.T, l netlink.Link, cidr string) {
	t.Helper()
	a, err := netlink.ParseAddr(cidr)
	if err != nil {
		t.Fatal(err)
	}
	a.Flags = unix.IFA_F_NODAD
	if err := netnstest.Handle(t, nil).AddrAdd(l, a); err != nil {
		t.Fatal(err)
	}
}

func TestConflictsAreFoundAndOnlyThose(t *testing.T) {
	near, far := netnstest.Veth(t)
	own(t, far, "10.9.0.1/24")
	own(t, far, "2001:db8:9::1/64")
	mac := probe.MAC(near.Attrs().HardwareAddr)
	got, err := probe.Conflicts(context.Background(), near.Attrs().Index, mac,
		addr("10.9.0.1"), addr("10.9.0.2"), addr("2001:db8:9::1"), addr("2001:db8:9::2"))
	if err != nil {
		t.Fatal(err)
	}
	by := probe.MAC(far.Attrs().HardwareAddr)
	if len(got) != 2 || got[0] != (probe.Conflict{Addr: addr("10.9.0.1"), MAC: by}) || got[1] != (probe.Conflict{Addr: addr("2001:db8:9::1"), MAC: by}) {
		t.Errorf("got %v", got)
	}
}

func TestATwinWithTheSameMACIsNoConflict(t *testing.T) {
	near, far := netnstest.Veth(t)
	own(t, far, "10.9.1.1/24")
	got, err := probe.Conflicts(context.Background(), near.Attrs().Index, probe.MAC(far.Attrs().HardwareAddr), addr("10.9.1.1"))
	if err != nil || got != nil {
		t.Errorf("got %v, %v", got, err)
	}
}

// TestOtherVLANsAreOtherNetworks: a trunk carries the same private ranges many times.
// Who has the address in another VLAN is in nobody's way; a frame of VLAN 0 has a
// priority, and no VLAN.
func TestOtherVLANsAreOtherNetworks(t *testing.T) {
	for vlan, conflicts := range map[uint16]int{100: 0, 0: 1} {
		near, far := netnstest.Veth(t)
		a := addr("10.9.5.1")
		stop := announce(t, far.Attrs().Index, tagged(probe.Frame(probe.MAC(far.Attrs().HardwareAddr), a), vlan))
		got, err := probe.Conflicts(context.Background(), near.Attrs().Index, probe.MAC(near.Attrs().HardwareAddr), a)
		stop()
		if err != nil || len(got) != conflicts {
			t.Errorf("VLAN %d: %v, %v, want %d conflicts", vlan, got, err, conflicts)
		}
	}
}

// tagged is a frame with a tag of IEEE 802.1Q.
func tagged(frame []byte, vlan uint16) []byte {
	out := append([]byte{}, frame[:12]...)
	out = append(out, 0x81, 0, 0x60|byte(vlan>>8), byte(vlan))
	return append(out, frame[12:]...)
}

// announce sends a frame on a link again and again until stop.
func announce(t *testing.T, index int, frame []byte) (stop func()) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		defer unix.Close(fd)
		for tick := time.NewTicker(5 * time.Millisecond); ; {
			if err := unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: index}); err != nil {
				t.Error(err)
				return
			}
			select {
			case <-tick.C:
			case <-quit:
				tick.Stop()
				return
			}
		}
	}()
	return func() { close(quit); <-done }
}

func TestALinkThatIsGoneIsAnError(t *testing.T) {
	if _, err := probe.Conflicts(context.Background(), 4242, probe.MAC{2}, addr("10.9.0.1")); err == nil {
		t.Error("no error")
	}
}

func TestAnothersProbeIsAConflict(t *testing.T) {
	for _, a := range []string{"10.9.0.1", "2001:db8::1"} {
		got, from, ok := probe.Parse(probe.Frame(probe.MAC{2, 1}, addr(a)))
		if !ok || got != addr(a) || from != (probe.MAC{2, 1}) {
			t.Errorf("%s: %v %v %v", a, got, from, ok)
		}
	}
}

// FuzzParse: no frame panics, and none is taken for an address that is not valid.
func FuzzParse(f *testing.F) {
	f.Add(probe.Frame(probe.MAC{2}, addr("10.0.0.1")))
	f.Add(probe.Frame(probe.MAC{2}, addr("fd00::1")))
	f.Fuzz(func(t *testing.T, frame []byte) {
		if a, _, ok := probe.Parse(frame); ok && !a.IsValid() {
			t.Fatal(a)
		}
	})
}
