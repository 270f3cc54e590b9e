package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// kernel makes and deletes a macvlan with an address and a default route by the
// fewest messages the kernel can be asked with, built beforehand: nothing is
// decided, recorded or looked at. It is the floor that no plugin gets below.
type kernel struct {
	home      *os.File
	make, del []byte
	// acks is how many answers make has.
	acks int
}

const (
	bareName  = "eth0"
	bareIndex = 100
	// bareNSID is the id by which a pod's namespace is to know the host's.
	bareNSID = 0
	makeAcks = 6
	delAcks  = 1
)

// bareAddress is what the bare macvlan has, with 24 bits, and bareGateway is
// where its default route goes.
var (
	bareAddress = []byte{10, 60, 0, 5}
	bareGateway = []byte{10, 60, 0, 1}
)

func newKernel(home *os.File, master int) kernel { return newKernelOf(home, master, 1) }

// newKernelOf makes that many links by one system call; the first one has the
// default route.
func newKernelOf(home *os.File, master, links int) kernel {
	k := kernel{home: home, del: message(unix.RTM_DELLINK, 0, ifinfo(bareIndex, 0))}
	for i := range links {
		k.make = append(k.make, makeMessages(home, master, i)...)
	}
	k.acks = makeAcks + (links-1)*(makeAcks-2)
	return k
}

// create opens a socket in the pod, sends one run of messages and reads the
// answers.
func (k kernel) create(pod *os.File) error {
	fd, err := k.socket(pod)
	if err != nil {
		return err
	}
	return errors.Join(ask(fd, k.make, k.acks), unix.Close(fd))
}

func (k kernel) socket(pod *os.File) (int, error) {
	runtime.LockOSThread()
	if err := unix.Setns(int(pod.Fd()), unix.CLONE_NEWNET); err != nil {
		return -1, err
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if back := unix.Setns(int(k.home.Fd()), unix.CLONE_NEWNET); back != nil {
		return -1, errors.Join(err, back) // still locked: nobody gets this thread
	}
	runtime.UnlockOSThread()
	return fd, err
}

// remove deletes the link that create made and says what that took: one message
// and its answer, on a socket that is open already.
func (k kernel) remove(pod *os.File) (time.Duration, error) {
	fd, err := k.socket(pod)
	if err != nil {
		return 0, err
	}
	start := time.Now()
	err = ask(fd, k.del, delAcks)
	took := time.Since(start)
	return took, errors.Join(err, unix.Close(fd))
}

// ask sends messages with one system call and reads as many answers.
func ask(fd int, messages []byte, acks int) error {
	if err := unix.Sendto(fd, messages, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("send to the kernel: %w", err)
	}
	var answer [4096]byte
	for i := range acks {
		n, _, err := unix.Recvfrom(fd, answer[:], 0)
		if err == nil && n < unix.SizeofNlMsghdr+4 {
			err = fmt.Errorf("answer of %d bytes", n)
		}
		if err == nil {
			if errno := -int32(binary.NativeEndian.Uint32(answer[unix.SizeofNlMsghdr:])); errno != 0 {
				err = unix.Errno(errno)
			}
		}
		if err != nil {
			return fmt.Errorf("answer of the kernel to message %d of %d: %w", i+1, acks, err)
		}
	}
	return nil
}

// nameOf is the name of the i-th link.
func nameOf(i int) string { return fmt.Sprintf("eth%d", i) }

// makeMessages are: the id of the host's namespace, the link, its announcing of
// itself (which the reference plugin sets too), the address, up, the default
// route; for another link than the first without the first one and the last.
func makeMessages(home *os.File, master, i int) []byte {
	index, ip := int32(bareIndex+i), append([]byte{}, bareAddress...)
	ip[2] += byte(i)
	link := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	link.AddRtAttr(unix.IFLA_INFO_KIND, []byte("macvlan"))
	link.AddRtAttr(unix.IFLA_INFO_DATA, nil).AddRtAttr(unix.IFLA_MACVLAN_MODE, nl.Uint32Attr(4)) // bridge
	announce := nl.NewRtAttr(unix.IFLA_AF_SPEC, nil)
	announce.AddRtAttr(unix.AF_INET, nil).AddRtAttr(unix.IFLA_INET_CONF, nil).AddRtAttr(22, nl.Uint32Attr(1)) // IPV4_DEVCONF_ARP_NOTIFY

	addr := nl.NewIfAddrmsg(unix.AF_INET)
	addr.Prefixlen, addr.Index = 24, uint32(index)
	route := nl.NewRtMsg()
	route.Family = unix.AF_INET

	var out []byte
	messages := [][]byte{
		message(unix.RTM_NEWNSID, 0, nl.NewRtGenMsg(), u32(unix.NETNSA_FD, uint32(home.Fd())), u32(unix.NETNSA_NSID, bareNSID)),
		message(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, ifinfo(index, 0), nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(nameOf(i))),
			u32(unix.IFLA_LINK, uint32(master)), u32(unix.IFLA_LINK_NETNSID, bareNSID), link),
		message(unix.RTM_SETLINK, 0, ifinfo(index, 0), announce),
		message(unix.RTM_NEWADDR, unix.NLM_F_CREATE, addr, nl.NewRtAttr(unix.IFA_LOCAL, ip), nl.NewRtAttr(unix.IFA_ADDRESS, ip)),
		message(unix.RTM_SETLINK, 0, ifinfo(index, unix.IFF_UP)),
		message(unix.RTM_NEWROUTE, unix.NLM_F_CREATE, route, nl.NewRtAttr(unix.RTA_GATEWAY, bareGateway), u32(unix.RTA_OIF, bareIndex)),
	}
	if i > 0 {
		messages = messages[1 : makeAcks-1]
	}
	for _, m := range messages {
		out = append(out, m...)
	}
	return out
}

// message is one request, with an answer asked for.
func message(typ, flags int, parts ...nl.NetlinkRequestData) []byte {
	req := nl.NewNetlinkRequest(typ, unix.NLM_F_ACK|flags)
	req.Seq = 0
	for _, p := range parts {
		req.AddData(p)
	}
	return req.Serialize()
}

// ifinfo names a bare link and sets the flags given.
func ifinfo(index int32, flags uint32) *nl.IfInfomsg {
	m := nl.NewIfInfomsg(unix.AF_UNSPEC)
	m.Index, m.Flags, m.Change = index, flags, flags
	return m
}

func u32(typ int, v uint32) *nl.RtAttr { return nl.NewRtAttr(typ, nl.Uint32Attr(v)) }
