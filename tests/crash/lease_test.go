package crash

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/server4"
	"github.com/vishvananda/netlink"

	"github.com/tendril-cni/tendril/cni/netns/netnstest"
	"github.com/tendril-cni/tendril/tests/crash/sweep"
)

// lender is a DHCP server on the far side of a master's wire, with one address.
type lender struct {
	// mu guards said: the client of each message, by its type.
	mu   sync.Mutex
	said map[dhcpv4.MessageType][]string
}

func (l *lender) count(kind dhcpv4.MessageType) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.said[kind])
}

func (l *lender) answer(conn net.PacketConn, _ net.Addr, m *dhcpv4.DHCPv4) {
	l.mu.Lock()
	l.said[m.MessageType()] = append(l.said[m.MessageType()], string(m.Options.Get(dhcpv4.OptionClientIdentifier)))
	l.mu.Unlock()
	kind := dhcpv4.MessageTypeAck
	switch m.MessageType() {
	case dhcpv4.MessageTypeRelease:
		return
	case dhcpv4.MessageTypeDiscover:
		kind = dhcpv4.MessageTypeOffer
	}
	here := net.IPv4(192, 0, 2, 1)
	r, err := dhcpv4.NewReplyFromRequest(m, dhcpv4.WithMessageType(kind), dhcpv4.WithYourIP(net.IPv4(192, 0, 2, 10)), dhcpv4.WithServerIP(here),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(here)), dhcpv4.WithNetmask(net.CIDRMask(24, 32)), dhcpv4.WithRouter(here),
		dhcpv4.WithLeaseTime(3)) // renewed after 1.5 s
	if err != nil {
		return
	}
	_, _ = conn.WriteTo(r.ToBytes(), &net.UDPAddr{IP: net.IPv4bcast, Port: 68})
}

// leaseStand has a pod with a macvlan whose address comes from a server.
func leaseStand(t *testing.T) (*sweep.Stand, *lender) {
	t.Helper()
	master, wire := netnstest.Veth(t)
	h := netnstest.Handle(t, nil)
	addr, _ := netlink.ParseAddr("192.0.2.1/24")
	if err := h.AddrAdd(wire, addr); err != nil {
		t.Fatal(err)
	}
	l := &lender{said: map[dhcpv4.MessageType][]string{}}
	srv, err := server4.NewServer(wire.Attrs().Name, &net.UDPAddr{Port: 67}, l.answer)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve() }()
	t.Cleanup(func() { _ = srv.Close(); <-done })
	sys := t.TempDir()
	if err := os.MkdirAll(filepath.Join(sys, "bus/pci/devices"), 0o755); err != nil {
		t.Fatal(err)
	}
	conf := func(ipam string) string {
		return fmt.Sprintf(`{"cniVersion":"1.0.0","type":"macvlan","master":%q,"ipam":%s}`, master.Attrs().Name, ipam)
	}
	return sweep.NewStand(t, sweep.Scene{Sysfs: sys, Annotation: "lent", Definitions: map[string]string{"lent": conf(`{"type":"dhcp"}`)},
		Default: `{"cniVersion":"1.0.0","name":"default","plugins":[` + conf(`{"type":"static","addresses":[{"address":"203.0.113.9/29"}]}`) + `]}`}), l
}

// TestLeaseOutlivesTheDaemon: a pod's address comes from the network's own server,
// the next daemon renews it, and DEL gives it back.
func TestLeaseOutlivesTheDaemon(t *testing.T) {
	s, l := leaseStand(t)
	before := podLinks(s)
	v := s.Start("", -1)
	if err := s.Call("ADD"); err != nil {
		t.Fatal(err)
	}
	if got := podLinks(s); !strings.Contains(got, "macvlan net1 192.0.2.10/24") {
		t.Fatalf("the pod has\n%s", got)
	}
	s.Stop(v)
	asked := l.count(dhcpv4.MessageTypeRequest)
	s.Start("", -1)
	if err := s.Call("CHECK"); err != nil {
		t.Error(err)
	}
	for deadline := time.Now().Add(patience); l.count(dhcpv4.MessageTypeRequest) == asked; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the second daemon does not renew the lease")
		}
	}
	for range 2 {
		if err := s.Call("DEL"); err != nil {
			t.Fatal(err)
		}
	}
	if got := podLinks(s); got != before {
		t.Errorf("left over:\n%s", got)
	}
	for deadline := time.Now().Add(patience); l.count(dhcpv4.MessageTypeRelease) == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the lease is not given back")
		}
	}
	if id := l.said[dhcpv4.MessageTypeRelease][0]; id != "\x00c1/lent/net1" {
		t.Errorf("the client is %q, want that of the reference", id)
	}
}

// leased is the same pod to be swept.
func leased(l **lender) sweep.Sweep {
	return sweep.Sweep{Attachments: 2, World: podLinks, Stand: func(t *testing.T) (s *sweep.Stand) { s, *l = leaseStand(t); return s }}
}

// TestInvariant3SweepLease also stops the daemon around the transaction that
// stores the lease.
func TestInvariant3SweepLease(t *testing.T) {
	var l *lender
	leased(&l).JournalSteps(t, "before lease", "after lease", "before no lease", "after no lease")
}
