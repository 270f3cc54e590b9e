package netns

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Conn is a netlink route socket that belongs to one network namespace for its
// whole life. Do not keep one for a pod: it holds the pod's namespace.
type Conn struct {
	// ns is the namespace, nil for the daemon's own. It is the caller's.
	ns *os.File

	// mu makes one exchange of one caller: it guards the rest.
	mu sync.Mutex
	// fd is -1 once the Conn is closed.
	fd int
	// seq is the number of the last message sent.
	seq uint32
	// broken says that an exchange ended without its answers.
	broken bool
}

// spare keeps sockets of the daemon's own namespace between their uses, because
// every attachment asks the host a few short questions, each on a Conn of its own.
var spare = make(chan socket, 4)

// socket is what of a closed Conn can be used again.
type socket struct {
	fd  int
	seq uint32
}

// answerTimeout bounds the wait for an answer that the kernel has as a rule
// queued before the request's system call returns.
var answerTimeout = unix.Timeval{Sec: 10}

// receiveBuffer holds the largest piece of a dump that the kernel sends.
const receiveBuffer = 32 << 10

// buffers are shared by all Conns, most of which live for one exchange. Nothing
// keeps a part of one after the exchange.
var buffers = sync.Pool{New: func() any { return new([receiveBuffer]byte) }}

// Dial opens a socket in ns, or in the daemon's own namespace when ns is nil. ns
// stays the caller's and must be open for as long as the Conn is used. A socket of
// the daemon's own may have served another Conn before, which is closed.
func Dial(ns *os.File) (*Conn, error) {
	if ns == nil {
		select {
		case s := <-spare:
			return &Conn{fd: s.fd, seq: s.seq}, nil
		default:
		}
		if err := atHome(); err != nil {
			return nil, fmt.Errorf("open netlink socket: %w", err)
		}
	}
	c := &Conn{ns: ns, fd: -1}
	err := Do(ns, func() (err error) {
		c.fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	// The texts of the kernel, and errors that do not repeat the request.
	err = errors.Join(
		unix.SetsockoptInt(c.fd, unix.SOL_NETLINK, unix.NETLINK_EXT_ACK, 1),
		unix.SetsockoptInt(c.fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1),
		unix.SetsockoptTimeval(c.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &answerTimeout))
	if err != nil {
		c.broken = true
		return nil, errors.Join(fmt.Errorf("set up netlink socket: %w", err), c.Close())
	}
	return c, nil
}

// Close ends the use of the socket. Closing twice is fine.
func (c *Conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	fd := c.fd
	if fd < 0 {
		return nil
	}
	c.fd = -1
	if c.ns == nil && !c.broken {
		select {
		case spare <- socket{fd, c.seq}:
			return nil
		default:
		}
	}
	return os.NewSyscallError("close", unix.Close(fd))
}

// exchange sends b with one system call and waits until every message of it is
// answered. The error is about the socket; what the kernel thought of each
// message is in the ops.
func (c *Conn) exchange(b *batch) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	b.close()
	first := c.seq + 1
	for _, o := range b.ops {
		c.seq++
		order.PutUint32(b.buf[o.at+8:], c.seq)
	}
	c.broken = true // until the last answer is in
	if err := c.send(b.buf); err != nil {
		return fmt.Errorf("send to the kernel: %w", err)
	}
	buf := buffers.Get().(*[receiveBuffer]byte)
	defer buffers.Put(buf)
	for left := len(b.ops); left > 0; {
		data, err := c.receive(buf[:])
		if err != nil {
			return fmt.Errorf("receive from the kernel: %w", err)
		}
		left -= answers(data, b.ops, first)
	}
	c.broken = false
	return nil
}

// run is exchange for callers who need every message to have succeeded.
func (c *Conn) run(b *batch) error {
	if err := c.exchange(b); err != nil {
		return err
	}
	return b.err()
}

func (c *Conn) send(data []byte) error {
	for {
		err := unix.Sendto(c.fd, data, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
		if err != unix.EINTR {
			return err
		}
	}
}

func (c *Conn) receive(buf []byte) ([]byte, error) {
	for {
		n, _, err := unix.Recvfrom(c.fd, buf, unix.MSG_TRUNC)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return nil, err
		case n > len(buf):
			return nil, fmt.Errorf("answer of %d bytes, room for %d: %w", n, len(buf), unix.EMSGSIZE)
		default:
			return buf[:n], nil
		}
	}
}

// answers hands the messages in data to their ops and returns how many ops are
// finished by them. Sequence numbers start at first; others are late answers to
// an exchange that was given up, and are ignored.
func answers(data []byte, ops []*op, first uint32) int {
	finished := 0
	for len(data) >= unix.SizeofNlMsghdr {
		n := int(order.Uint32(data))
		if n < unix.SizeofNlMsghdr || n > len(data) {
			return finished
		}
		typ, flags, seq := order.Uint16(data[4:]), order.Uint16(data[6:]), order.Uint32(data[8:])
		if i := seq - first; i < uint32(len(ops)) && !ops[i].answered {
			ops[i].take(typ, flags, data[unix.SizeofNlMsghdr:n])
			if ops[i].answered {
				finished++
			}
		}
		data = data[min(align(n), len(data)):]
	}
	return finished
}

// take reads one answer to o.
func (o *op) take(typ, flags uint16, body []byte) {
	if flags&unix.NLM_F_DUMP_INTR != 0 {
		o.interrupted = true
	}
	switch typ {
	case unix.NLMSG_DONE, unix.NLMSG_ERROR:
		o.answered = true
		if len(body) >= 4 {
			o.fail(unix.Errno(-int32(order.Uint32(body))), flags, typ, body)
		}
	default:
		if o.reply != nil {
			o.reply(typ, body)
		}
	}
}

// fail notes errno (0 is success) with the kernel's text. The text's attributes
// follow the error number and, in NLMSG_ERROR, the header of the request.
func (o *op) fail(errno unix.Errno, flags, typ uint16, body []byte) {
	if errno == 0 {
		return
	}
	o.err = &Error{Op: o.what, Object: o.object, Errno: errno}
	skip := 4
	if typ == unix.NLMSG_ERROR {
		skip += unix.SizeofNlMsghdr
	}
	if flags&unix.NLM_F_ACK_TLVS == 0 || len(body) < skip {
		return
	}
	attrs(body[skip:], func(t uint16, v []byte) {
		if t == unix.NLMSGERR_ATTR_MSG {
			o.err.Text = text(v)
		}
	})
}
