package netns

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/tendril-cni/tendril/cni/refusal"
)

// ErrNameTaken means that a link with the wanted name, or alternative name,
// exists in the namespace already.
var ErrNameTaken = errors.New("interface name is taken")

// Indexes are chosen here and not by the kernel, because all messages about a
// new link go out with the one that creates it. They lie above what the kernel
// hands out on a long-lived host, so that nobody else arrives at one between the
// look and the use, and a counter keeps our own apart.
const (
	firstIndex = 1 << 24
	indexes    = 1 << 24
	indexTries = 8
)

var indexCounter atomic.Uint32

func init() { indexCounter.Store(rand.Uint32()) }

func nextIndex() int { return firstIndex + int(indexCounter.Add(1)%indexes) }

// Create makes the link s with its final name, MAC, MTU and mark, sets it up as
// s.Setup says, and returns what it observed then. Without IPv6 addresses all of
// it is one system call; with them it is two, around the sysctls.
//
// ErrNameTaken means that nothing was made. After any other error the link may
// exist in part: Remove with the same name, kind and mark takes it away.
func (c *Conn) Create(ctx context.Context, s Spec) (Link, error) {
	if err := ctx.Err(); err != nil {
		return Link{}, fmt.Errorf("create %s: %w", s.Name, err)
	}
	mac, err := parseMAC(s.Setup.MAC)
	if err != nil {
		return Link{}, err
	}
	l, err := c.create(ctx, s, mac, s.Name)
	if s.ParentInHost && errors.Is(err, unix.EEXIST) {
		// Kernels before 6.13 make the link in the parent's namespace and move it
		// from there, so a name that the host has is refused although it is free
		// here. It gets a name that nobody has, and its own on arrival.
		l, err = c.create(ctx, s, mac, fmt.Sprintf("tendril%08x", nextIndex()))
	}
	return l, err
}

// create makes the link under the name first, which is s.Name or one to be
// replaced by it at once.
func (c *Conn) create(ctx context.Context, s Spec, mac net.HardwareAddr, first string) (Link, error) {
	index, nsid, err := c.prepare(s.ParentInHost)
	if err != nil {
		return Link{}, fmt.Errorf("create %s: %w", s.Name, err)
	}
	var home *os.File
	if s.Peer != nil {
		if home, err = host(); err != nil {
			return Link{}, err
		}
	}
	var b batch
	made := b.create(s, mac, index, nsid, first, home)
	if first != s.Name {
		b.begin("rename", s.Name, unix.RTM_SETLINK, 0)
		b.info(unix.AF_UNSPEC, index, 0, 0)
		b.str(unix.IFLA_IFNAME, s.Name)
	}
	rest := s.Setup
	rest.MAC, rest.MTU = "", 0
	l, err := c.setUp(ctx, &b, index, s.Name, rest)
	if made.err != nil {
		return Link{}, c.refused(made, s.Name)
	}
	return l, err
}

// refused explains why the link was not made.
func (c *Conn) refused(made *op, name string) error {
	if made.err.Errno != unix.EEXIST {
		return made.err
	}
	if _, err := c.LinkByName(name); err == nil {
		return fmt.Errorf("create %s: %w", name, ErrNameTaken)
	}
	return made.err
}

// prepare picks an index that no link of the namespace has and, when the parent
// is on the host, returns the id by which this namespace knows the host's.
func (c *Conn) prepare(fromHost bool) (index, nsid int, err error) {
	for range indexTries {
		var b batch
		index = nextIndex()
		free := b.get(index)
		nsid = -1
		var home *os.File
		if fromHost {
			if home, err = host(); err != nil {
				return 0, 0, err
			}
			b.assignID(home)
			b.readID(home, &nsid)
		}
		err = c.exchange(&b)
		runtime.KeepAlive(home)
		if err != nil {
			return 0, 0, err
		}
		if free.err == nil {
			continue
		}
		free.pardon = unix.ENODEV
		return index, nsid, b.err()
	}
	return 0, 0, fmt.Errorf("choose an interface index: %w", unix.EEXIST)
}

// create adds the message that makes the link, down, and the one that marks it.
// The kernel takes no alias at creation; the group, which it does take, tells
// our links apart should the second message fail.
func (b *batch) create(s Spec, mac net.HardwareAddr, index, nsid int, name string, home *os.File) *op {
	made := b.begin("create", s.Name, unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	b.info(unix.AF_UNSPEC, index, 0, 0)
	b.str(unix.IFLA_IFNAME, name)
	b.u32(unix.IFLA_GROUP, Group)
	if s.Parent != 0 {
		b.u32(unix.IFLA_LINK, uint32(s.Parent))
	}
	if s.ParentInHost {
		b.u32(unix.IFLA_LINK_NETNSID, uint32(nsid))
	}
	b.hardware(mac, s.Setup.MTU)
	b.nest(unix.IFLA_LINKINFO, func() {
		b.str(unix.IFLA_INFO_KIND, s.Kind)
		b.nest(unix.IFLA_INFO_DATA, func() {
			for _, a := range s.Data {
				b.bytes(a.Type, a.Value)
			}
			if s.Peer != nil {
				b.peer(*s.Peer, home)
			}
		})
	})
	b.begin("mark", s.Name, unix.RTM_SETLINK, 0)
	b.info(unix.AF_UNSPEC, index, 0, 0)
	b.str(unix.IFLA_IFALIAS, s.Mark)
	return made
}

// vethInfoPeer is VETH_INFO_PEER of linux/veth.h.
const vethInfoPeer = 1

// peer adds the far end of a veth, which goes to home.
func (b *batch) peer(p Peer, home *os.File) {
	b.nest(vethInfoPeer, func() {
		b.info(unix.AF_UNSPEC, 0, 0, 0)
		b.str(unix.IFLA_IFNAME, p.Name)
		b.u32(unix.IFLA_NET_NS_FD, uint32(home.Fd()))
		b.hardware(nil, p.MTU)
	})
}

// hardware adds MAC and MTU where they are given.
func (b *batch) hardware(mac net.HardwareAddr, mtu int) {
	if len(mac) > 0 {
		b.bytes(unix.IFLA_ADDRESS, mac)
	}
	if mtu > 0 {
		b.u32(unix.IFLA_MTU, uint32(mtu))
	}
}

// parseMAC reads a hardware address; "" is none.
func parseMAC(s string) (net.HardwareAddr, error) {
	if s == "" {
		return nil, nil
	}
	mac, err := net.ParseMAC(s)
	if err != nil {
		return nil, refusal.New("", "mac", s, "a hardware address in colon form").Because(err)
	}
	return mac, nil
}
