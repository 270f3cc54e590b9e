package kube

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// port is a TCP port kept for a process that will listen on it and may come and go. It is bound but
// does not listen, with SO_REUSEPORT, which lets in those processes of the same user that say the same
// (the API server's --permit-port-sharing) and keeps out the rest.
type port struct {
	socket *os.File
	number uint16
}

// reserve keeps a port of addr, a free one if want is zero.
func reserve(addr netip.Addr, want uint16) (*port, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("reserve a port: %w", err)
	}
	p := &port{socket: os.NewFile(uintptr(fd), "reserved port")}
	if err := p.bind(fd, addr, want); err != nil {
		_ = p.release()
		return nil, fmt.Errorf("reserve port %d of %s: %w", want, addr, err)
	}
	return p, nil
}

func (p *port) bind(fd int, addr netip.Addr, want uint16) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		return err
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: addr.As4(), Port: int(want)}); err != nil {
		return err
	}
	bound, err := unix.Getsockname(fd)
	if err != nil {
		return err
	}
	p.number = uint16(bound.(*unix.SockaddrInet4).Port)
	return nil
}

func (p *port) release() error { return p.socket.Close() }

// FreePort returns a TCP port of 127.0.0.1 on which nobody listens, for a process
// that cannot be handed a listener. It lies below the ports that the kernel gives
// to connections (ip_local_port_range, kernel doc ip-sysctl): until the process
// listens, none of those can take it.
func FreePort() (int, error) {
	low := 32768
	if data, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		_, _ = fmt.Sscan(string(data), &low)
	}
	const span = 8192
	for range 64 {
		port := max(low-span, 1024) + rand.IntN(span)
		if ln, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			return port, ln.Close()
		}
	}
	return 0, fmt.Errorf("find a free port: none of 64 below %d", low)
}
