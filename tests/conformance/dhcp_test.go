package conformance

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/server4"
	"github.com/vishvananda/netlink"

	"github.com/tendril-cni/tendril/cni/netns"
	"github.com/tendril-cni/tendril/cni/netns/netnstest"
)

// lend runs a DHCP server at wire0 of the host, which has one address to lend.
func (s *side) lend() {
	s.t.Helper()
	h := s.handle(s.host)
	a, _ := netlink.ParseAddr("192.0.2.1/24")
	if err := h.AddrAdd(netnstest.Link(s.t, h, "wire0"), a); err != nil {
		s.t.Fatal(err)
	}
	var srv *server4.Server
	err := netns.Do(s.host, func() (err error) {
		srv, err = server4.NewServer("wire0", &net.UDPAddr{Port: 67}, func(conn net.PacketConn, _ net.Addr, m *dhcpv4.DHCPv4) {
			kind := dhcpv4.MessageTypeAck
			if m.MessageType() == dhcpv4.MessageTypeDiscover {
				kind = dhcpv4.MessageTypeOffer
			}
			r, err := dhcpv4.NewReplyFromRequest(m, dhcpv4.WithMessageType(kind), dhcpv4.WithYourIP(net.IPv4(192, 0, 2, 10)),
				dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(192, 0, 2, 1))), dhcpv4.WithNetmask(net.CIDRMask(24, 32)),
				dhcpv4.WithRouter(net.IPv4(192, 0, 2, 1)), dhcpv4.WithLeaseTime(3600))
			if err == nil {
				_, _ = conn.WriteTo(r.ToBytes(), &net.UDPAddr{IP: net.IPv4bcast, Port: 68})
			}
		})
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve() }()
	s.t.Cleanup(func() { _ = srv.Close(); <-done })
}

// daemon runs a DHCP daemon on the host.
func (s *side) daemon(bin string) {
	s.t.Helper()
	cmd := exec.Command(filepath.Join(bin, "dhcp"), "daemon")
	cmd.Args[0], cmd.Stderr = "dhcp", os.Stderr
	if strings.HasSuffix(bin, "reference") {
		cmd.Args, cmd.Stderr = append(cmd.Args, "-broadcast=true"), nil
	}
	if err := netns.Do(s.host, cmd.Start); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = cmd.Process.Signal(syscall.SIGTERM); _ = cmd.Wait() })
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if conn, err := net.Dial("unix", "/run/cni/dhcp.sock"); err == nil {
			_ = conn.Close()
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatal("the daemon does not listen")
		}
	}
}

// TestDHCPSpeaksTheReferencesProtocol: executables and daemons of both sides in
// every combination, over a real server.
func TestDHCPSpeaksTheReferencesProtocol(t *testing.T) {
	for _, plugins := range []string{"reference", "tendril"} {
		for _, daemon := range []string{"reference", "tendril"} {
			t.Run(plugins+" with daemon of "+daemon, func(t *testing.T) {
				s := newSide(t, plugins)
				s.lend()
				s.daemon(strings.TrimSuffix(s.bin, plugins) + daemon)
				c := conf("macvlan", "master", "up0", "ipam", map[string]any{"type": "dhcp"})
				a := s.must(call{verb: "ADD", conf: c})
				out := strings.Join(lines("result", a.out), "\n")
				for _, want := range []string{`result.ips[0].address = "192.0.2.10/24"`, `result.ips[0].gateway = "192.0.2.1"`, `result.routes[0].gw = "192.0.2.1"`} {
					if !strings.Contains(out, want) {
						t.Errorf("%s is not in\n%s", want, out)
					}
				}
				h := s.handle(s.pod)
				addrs, err := h.AddrList(netnstest.Link(t, h, "net1"), netlink.FAMILY_V4)
				if err != nil || len(addrs) != 1 || addrs[0].IPNet.String() != "192.0.2.10/24" {
					t.Errorf("the pod has %v, %v", addrs, err)
				}
				s.must(call{verb: "CHECK", conf: with(c, "prevResult", a.out)})
				s.must(call{verb: "DEL", conf: c})
				s.must(call{verb: "DEL", conf: c})
				netnstest.Absent(t, h, "net1")
				if left, _ := filepath.Glob("/run/cni/tendril/dhcp/*"); len(left) > 0 {
					t.Errorf("left: %v", left)
				}
			})
		}
	}
}
