package sysfs

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"

	"golang.org/x/sys/unix"
)

// rtmgrpLink is the multicast group of rtnetlink(7) that tells of links.
const rtmgrpLink = 1

// linkEvents sends a value for each change of a network device that may be a PF's
// or VF's: MTU, carrier, alternative names, of which there are no uevents. It
// works in the network namespace of the calling thread, until ctx ends; wait
// returns when its goroutine has ended.
func linkEvents(ctx context.Context, log *slog.Logger) (events <-chan struct{}, wait func(), err error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, nil, fmt.Errorf("open link event socket: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: rtmgrpLink}); err != nil {
		_ = unix.Close(fd)
		return nil, nil, fmt.Errorf("bind link event socket: %w", err)
	}
	return receive(ctx, fd, "link events", LinkConcerns, log)
}

// LinkConcerns reports whether messages of rtnetlink (RTM_NEWLINK, RTM_DELLINK)
// can change the inventory: whether one is about a physical device. Those that
// software makes name their kind (IFLA_LINKINFO), physical ones and VFs have none;
// so the veths and macvlans of pods, which come and go all the time, do not. What a
// bridge says of its ports (AF_BRIDGE) names no kind, and is of no NIC.
func LinkConcerns(messages []byte) bool {
	order := binary.NativeEndian
	for len(messages) >= unix.SizeofNlMsghdr {
		n := int(order.Uint32(messages))
		if n < unix.SizeofNlMsghdr || n > len(messages) {
			return false
		}
		kind := order.Uint16(messages[4:])
		if (kind == unix.RTM_NEWLINK || kind == unix.RTM_DELLINK) && physical(messages[unix.SizeofNlMsghdr:n]) {
			return true
		}
		messages = messages[min((n+3)&^3, len(messages)):]
	}
	return false
}

// physical looks for the device's kind behind struct ifinfomsg.
func physical(body []byte) bool {
	if len(body) < unix.SizeofIfInfomsg || body[0] != unix.AF_UNSPEC {
		return false
	}
	order := binary.NativeEndian
	for attrs := body[unix.SizeofIfInfomsg:]; len(attrs) >= unix.SizeofRtAttr; {
		n := int(order.Uint16(attrs))
		if n < unix.SizeofRtAttr || n > len(attrs) {
			return false
		}
		if order.Uint16(attrs[2:])&^unix.NLA_F_NESTED == unix.IFLA_LINKINFO && hasKind(attrs[unix.SizeofRtAttr:n]) {
			return false
		}
		attrs = attrs[min((n+3)&^3, len(attrs)):]
	}
	return true
}

// hasKind reports whether the nest has IFLA_INFO_KIND. A physical device that is
// a slave has the nest too, with the kind of its master alone.
func hasKind(nest []byte) bool {
	order := binary.NativeEndian
	for len(nest) >= unix.SizeofRtAttr {
		n := int(order.Uint16(nest))
		if n < unix.SizeofRtAttr || n > len(nest) {
			return false
		}
		if order.Uint16(nest[2:]) == unix.IFLA_INFO_KIND {
			return true
		}
		nest = nest[min((n+3)&^3, len(nest)):]
	}
	return false
}
