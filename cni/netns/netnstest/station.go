package netnstest

import (
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/packet"

	"github.com/tendril-cni/tendril/cni/netns"
)

// experimental is an EtherType that nobody else uses (IEEE 802, local experiments).
const experimental = 0x88b5

// Everybody is the broadcast address.
var Everybody = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// patience bounds every wait; an emulated machine is slow.
const patience = time.Minute

// Station sends and hears Ethernet frames with texts on one link of a pod.
type Station struct {
	t    testing.TB
	conn *packet.Conn
	// MAC is the link's own hardware address.
	MAC net.HardwareAddr
}

// Listen makes a station of the link with that name in ns. It ends with the test.
func Listen(t testing.TB, ns *os.File, link string) *Station {
	t.Helper()
	s := &Station{t: t}
	err := netns.Do(ns, func() error {
		l, err := net.InterfaceByName(link)
		if err == nil {
			s.MAC = l.HardwareAddr
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

// Say sends a frame with that text, from that hardware address, whosever it is.
func (s *Station) Say(from, to net.HardwareAddr, text string) {
	s.t.Helper()
	frame := append(append(append([]byte{}, to...), from...), experimental>>8, experimental&0xff)
	frame = append(frame, text...)
	frame = append(frame, make([]byte, max(0, 60-len(frame)))...)
	if _, err := s.conn.WriteTo(frame, &packet.Addr{HardwareAddr: to}); err != nil {
		s.t.Fatal(err)
	}
}

// Hears says whether a frame with the text comes before one with the other text:
// what did not come before a later frame was lost on the way, however slow the
// machine. again says both, and is repeated, since the first frames may find no
// carrier.
func (s *Station) Hears(text, later string, again func()) bool {
	s.t.Helper()
	heard := false
	for end := time.Now().Add(patience); time.Now().Before(end); {
		again()
		_ = s.conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		for {
			got, err := s.next()
			if err != nil {
				break
			}
			switch {
			case strings.HasPrefix(got, text):
				heard = true
			case strings.HasPrefix(got, later):
				return heard
			}
		}
	}
	s.t.Fatalf("%q is never heard", later)
	return false
}

// next is the text of the next frame.
func (s *Station) next() (string, error) {
	buf := make([]byte, 2048)
	n, _, err := s.conn.ReadFrom(buf)
	if err != nil {
		return "", err
	}
	return string(buf[min(14, n):n]), nil
}
