package netns_test

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netns"
	"github.com/tendril-cni/tendril/cni/netns/netnstest"
)

// listen opens a socket that sees every frame on the host's link index.
func listen(t *testing.T, index int) int {
	t.Helper()
	all := uint16(unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8)
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(all))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: index}); err != nil {
		t.Fatal(err)
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000}); err != nil {
		t.Fatal(err)
	}
	return fd
}

// TestAddressesAreAnnounced: a switch and the neighbours learn a new pod from
// what it sends itself, gratuitous ARP and unsolicited neighbour advertisement.
func TestAddressesAreAnnounced(t *testing.T) {
	master, wire := netnstest.Veth(t)
	fd := listen(t, wire.Attrs().Index)
	s := spec("net1", master)
	s.Setup.MAC = "02:00:00:00:00:55"
	s.Setup.Addresses = []cni.Address{address("10.1.0.5/24"), address("2001:db8::5/64")}
	if _, err := dial(t, netnstest.Pod(t)).Create(context.Background(), s); err != nil {
		t.Fatal(err)
	}
	await(t, fd, s.Setup.MAC, "10.1.0.5", "2001:db8::5")
}

// TestAnAddressOfALinkThatIsUpIsAnnounced: here the kernel sends nothing.
func TestAnAddressOfALinkThatIsUpIsAnnounced(t *testing.T) {
	master, wire := netnstest.Veth(t)
	fd := listen(t, wire.Attrs().Index)
	c := dial(t, netnstest.Pod(t))
	s := spec("net1", master)
	s.Setup.MAC = "02:00:00:00:00:56"
	l, err := c.Create(context.Background(), s)
	if err != nil {
		t.Fatal(err)
	}
	later := netns.Setup{Up: true, Vouched: true, Addresses: []cni.Address{address("2001:db8::6/64")}}
	if _, err := c.Configure(context.Background(), l.Index, later); err != nil {
		t.Fatal(err)
	}
	await(t, fd, s.Setup.MAC, "2001:db8::6")
}

// await reads frames until mac has announced each of the addresses.
func await(t *testing.T, fd int, mac string, addresses ...string) {
	t.Helper()
	from, err := net.ParseMAC(mac)
	if err != nil {
		t.Fatal(err)
	}
	missing := map[netip.Addr]bool{}
	for _, a := range addresses {
		missing[netip.MustParseAddr(a)] = true
	}
	frame := make([]byte, 2048)
	for deadline := time.Now().Add(10 * time.Second); len(missing) > 0; {
		if time.Now().After(deadline) {
			t.Fatalf("not announced: %v", missing)
		}
		if n, _, err := unix.Recvfrom(fd, frame, 0); err == nil && n >= 42 && bytes.Equal(frame[6:12], from) {
			delete(missing, announced(frame[:n]))
		}
	}
}

// announced returns the address that a frame announces: a gratuitous ARP request
// (RFC 5227) or an unsolicited, overriding neighbour advertisement with hop limit
// 255 and the sender's own hardware address (RFC 4861).
func announced(f []byte) (a netip.Addr) {
	switch {
	case f[12] == 0x08 && f[13] == 0x06 && bytes.Equal(f[28:32], f[38:42]):
		a, _ = netip.AddrFromSlice(f[28:32])
	case len(f) >= 86 && f[12] == 0x86 && f[13] == 0xdd && f[20] == unix.IPPROTO_ICMPV6 && f[21] == 255 && f[54] == 136:
		if f[58] == 0x20 && bytes.Equal(f[22:38], f[62:78]) && bytes.Equal(f[80:86], f[6:12]) {
			a, _ = netip.AddrFromSlice(f[62:78])
		}
	}
	return a
}
