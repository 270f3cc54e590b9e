//go:build lab

package sriov_test

import (
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/mdlayher/packet"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netns"
	"github.com/tendril-cni/tendril/cni/netns/netnstest"
)

// experimental is an EtherType that nobody else uses (IEEE 802, local experiments).
const experimental = 0x88b5

// station is a pod with one VF, listening for frames of the test.
type station struct {
	*bench
	ns   *os.File
	r    cni.Record
	link cni.Link
	conn *packet.Conn
}

// put gives a fresh pod VF i with that configuration and an address.
func put(t *testing.T, i int, config, address string) *station {
	t.Helper()
	s := &station{bench: take(t, i), ns: netnstest.Pod(t)}
	s.r = s.record(s.ns, config)
	if address != "" {
		s.r.Attachment.Addresses = []cni.Address{{Prefix: netip.MustParsePrefix(address)}}
	}
	s.link = s.attach(s.ns, &s.r)
	t.Cleanup(func() { s.detach(s.ns, s.r) })
	err := netns.Do(s.ns, func() error {
		l, err := net.InterfaceByName(s.link.Name)
		if err == nil {
			s.conn, err = packet.Listen(l, packet.Raw, experimental, nil)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.conn.Close() })
	return s
}

// mac is the hardware address of the station's device.
func (s *station) mac() net.HardwareAddr {
	hw, err := net.ParseMAC(s.link.MAC)
	if err != nil {
		s.Fatal(err)
	}
	return hw
}

// say sends a frame with that text from the hardware address.
func (s *station) say(from, to net.HardwareAddr, text string) {
	s.Helper()
	frame := append(append(append([]byte{}, to...), from...), experimental>>8, experimental&0xff)
	frame = append(frame, text...)
	frame = append(frame, make([]byte, max(0, 60-len(frame)))...)
	if _, err := s.conn.WriteTo(frame, &packet.Addr{HardwareAddr: to}); err != nil {
		s.Fatal(err)
	}
}

// hears says whether a frame with the text comes before one with the other text:
// what did not come before a later frame was lost on the way, however slow the
// machine. again repeats both, since the first frames may find no carrier.
func (s *station) hears(text, later string, again func()) bool {
	s.Helper()
	buf := make([]byte, 2048)
	heard := false
	for end := time.Now().Add(deadline); time.Now().Before(end); {
		again()
		_ = s.conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		for {
			n, _, err := s.conn.ReadFrom(buf)
			if err != nil {
				break
			}
			got := string(buf[14:n])
			switch {
			case len(got) >= len(text) && got[:len(text)] == text:
				heard = true
			case len(got) >= len(later) && got[:len(later)] == later:
				return heard
			}
		}
	}
	s.Fatalf("%q is never heard", later)
	return false
}

var everybody = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// TestVLANSeparatesOnTheWire: what a VF on a VLAN sends reaches the VF on the same
// one and not the one on none, nor the other way round.
func TestVLANSeparatesOnTheWire(t *testing.T) {
	a := put(t, 0, `{"type":"sriov","vlan":42,"spoofchk":"off"}`, "")
	b := put(t, 1, `{"type":"sriov","vlan":42,"spoofchk":"off"}`, "")
	out := put(t, 2, `{"type":"sriov","spoofchk":"off"}`, "")
	out2 := put(t, 3, `{"type":"sriov","spoofchk":"off"}`, "")
	both := func() {
		a.say(a.mac(), everybody, "tagged")
		out.say(out.mac(), everybody, "plain")
	}
	if out2.hears("tagged", "plain", both) {
		t.Error("a VF on no VLAN hears what one on VLAN 42 says")
	}
	if b.hears("plain", "tagged", func() { out.say(out.mac(), everybody, "plain"); a.say(a.mac(), everybody, "tagged") }) {
		t.Error("a VF on VLAN 42 hears what one on no VLAN says")
	}
}

// TestPromiscAndAllmulti are set in the pod and undone with everything else.
func TestPromiscAndAllmulti(t *testing.T) {
	b := take(t, 4)
	ns := netnstest.Pod(t)
	r := b.record(ns, `{"type":"sriov","promisc":true,"allmulti":true,"trust":"on"}`)
	b.attach(ns, &r)
	l := netnstest.Link(t, netnstest.Handle(t, ns), "net1").Attrs()
	if l.Promisc == 0 || l.Allmulti == 0 {
		t.Errorf("promisc %d, allmulti %d", l.Promisc, l.Allmulti)
	}
	b.detach(ns, r)
	b.back("after Detach")
}
