package probe

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// How a probe goes. RFC 5227 has three probes over four to seven seconds and
// allows less where the link is known to be fast (section 2.2): a wired data
// centre answers in well under a millisecond.
const (
	probes = 3
	every  = 60 * time.Millisecond
)

// Conflict is an address that somebody else has.
type Conflict struct {
	Addr netip.Addr
	MAC  MAC
}

// Error names the address and who has it.
func (c *Conflict) Error() string {
	return fmt.Sprintf("address %s is in use on the network by %x", c.Addr, c.MAC)
}

// Conflicts asks on the Ethernet link of that index, which is up and has mac,
// whether somebody has one of the addresses, and returns those who do: about 180
// ms without an answer. The addresses are not on the link yet.
func Conflicts(ctx context.Context, index int, mac MAC, addrs ...netip.Addr) ([]Conflict, error) {
	fd, err := listen(index)
	if err != nil {
		return nil, fmt.Errorf("probe link %d: %w", index, err)
	}
	defer unix.Close(fd)
	found := map[netip.Addr]MAC{}
	for range probes {
		for _, a := range addrs {
			if _, known := found[a]; known {
				continue
			}
			if err := send(fd, index, Frame(mac, a)); err != nil {
				return nil, fmt.Errorf("probe for %s on link %d: %w", a, index, err)
			}
		}
		if err := hear(ctx, fd, time.Now().Add(every), func(a netip.Addr, from MAC) {
			if from != mac {
				found[a] = from
			}
		}); err != nil {
			return nil, fmt.Errorf("probe link %d: %w", index, err)
		}
	}
	var out []Conflict
	for _, a := range addrs {
		if by, ok := found[a]; ok {
			out = append(out, Conflict{Addr: a, MAC: by})
		}
	}
	return out, nil
}

// network is n in network byte order, as packet sockets want a protocol.
func network(n uint16) uint16 { return n<<8 | n>>8 }

// listen opens a socket that gets every frame of the link, those to multicast
// groups that nobody joined included.
func listen(index int) (int, error) {
	all := network(unix.ETH_P_ALL)
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(all))
	if err != nil {
		return -1, err
	}
	err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: index})
	if err == nil {
		err = unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP,
			&unix.PacketMreq{Ifindex: int32(index), Type: unix.PACKET_MR_ALLMULTI})
	}
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1)
	}
	if err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

func send(fd, index int, frame []byte) error {
	for {
		err := unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: index})
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// hear tells of every claim to an address that it hears until the deadline.
func hear(ctx context.Context, fd int, deadline time.Time, tell func(netip.Addr, MAC)) error {
	buf, aux := make([]byte, 2048), make([]byte, 64)
	for {
		left := time.Until(deadline)
		if left <= 0 || ctx.Err() != nil {
			return ctx.Err()
		}
		n, m, _, _, err := unix.Recvmsg(fd, buf, aux, 0)
		switch {
		case err == nil:
			if a, from, ok := Parse(buf[:n]); ok && vlan(aux[:m]) == 0 {
				tell(a, from)
			}
		case errors.Is(err, unix.EAGAIN):
			wait := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			if _, err := unix.Poll(wait, int(left.Milliseconds())+1); err != nil && !errors.Is(err, unix.EINTR) {
				return err
			}
		case !errors.Is(err, unix.EINTR):
			return err
		}
	}
}

// vlan is the VLAN that a frame was tagged with, 0 for none: the kernel takes the tag
// out of the frame before anybody sees it, and tells of it beside.
func vlan(aux []byte) uint16 {
	messages, err := unix.ParseSocketControlMessage(aux)
	if err != nil {
		return 0
	}
	for _, m := range messages {
		if m.Header.Level != unix.SOL_PACKET || m.Header.Type != unix.PACKET_AUXDATA || len(m.Data) < 20 {
			continue
		}
		if status := binary.NativeEndian.Uint32(m.Data); status&unix.TP_STATUS_VLAN_VALID != 0 {
			return binary.NativeEndian.Uint16(m.Data[16:]) & 0xfff
		}
	}
	return 0
}
