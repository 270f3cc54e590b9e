package netns

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

var order = binary.NativeEndian

// Error is one message of ours that the kernel refused.
type Error struct {
	// Op is what was tried: "create", "configure", "address", "up", "route",
	// "move", "delete", "read".
	Op string
	// Object is the link, address or route it was tried on.
	Object string
	// Errno is the kernel's answer, and Text its own words for it where it has
	// any (NETLINK_EXT_ACK, netlink(7)).
	Errno unix.Errno
	Text  string
}

// Error prints "<op> <object>: <errno>: <kernel's text>".
func (e *Error) Error() string {
	s := fmt.Sprintf("%s %s: %v", e.Op, e.Object, e.Errno)
	if e.Text != "" {
		s += ": " + e.Text
	}
	return s
}

// Unwrap returns the errno, for errors.Is.
func (e *Error) Unwrap() error { return e.Errno }

// op is one message of a batch and, after the exchange, what became of it.
type op struct {
	what, object string
	// at is where the message starts in the batch.
	at int
	// reply, if set, gets the body of every answer that is not an ACK.
	reply func(typ uint16, body []byte)
	// pardon is an errno that counts as success; anyErrno pardons all.
	pardon unix.Errno

	answered    bool
	interrupted bool
	err         *Error
}

// anyErrno as op.pardon makes the message a best effort.
const anyErrno = ^unix.Errno(0)

// batch is a run of netlink messages that is sent by one system call. The kernel
// works through all of them whatever becomes of the earlier ones, so a message
// must be harmless when its predecessors failed.
type batch struct {
	buf []byte
	ops []*op
}

// begin starts a message. flags are added to NLM_F_REQUEST and NLM_F_ACK.
func (b *batch) begin(what, object string, typ uint16, flags uint16) *op {
	b.close()
	o := &op{what: what, object: object, at: len(b.buf)}
	b.ops = append(b.ops, o)
	b.buf = append(b.buf, make([]byte, unix.SizeofNlMsghdr)...)
	order.PutUint16(b.buf[o.at+4:], typ)
	order.PutUint16(b.buf[o.at+6:], unix.NLM_F_REQUEST|unix.NLM_F_ACK|flags)
	return o
}

// close writes the length of the message begun last.
func (b *batch) close() {
	if n := len(b.ops); n > 0 {
		at := b.ops[n-1].at
		order.PutUint32(b.buf[at:], uint32(len(b.buf)-at))
	}
}

// info appends a struct ifinfomsg (rtnetlink(7)). change is the mask of flags.
func (b *batch) info(family uint8, index int, flags, change uint32) {
	b.buf = append(b.buf, family, 0, 0, 0)
	b.buf = order.AppendUint32(b.buf, uint32(index))
	b.buf = order.AppendUint32(b.buf, flags)
	b.buf = order.AppendUint32(b.buf, change)
}

// bytes appends the attribute typ with value v, padded.
func (b *batch) bytes(typ uint16, v []byte) {
	b.buf = order.AppendUint16(b.buf, uint16(unix.SizeofRtAttr+len(v)))
	b.buf = order.AppendUint16(b.buf, typ)
	b.buf = append(b.buf, v...)
	for len(b.buf)%unix.RTA_ALIGNTO != 0 {
		b.buf = append(b.buf, 0)
	}
}

// u32 appends a 32-bit attribute.
func (b *batch) u32(typ uint16, v uint32) { b.bytes(typ, order.AppendUint32(nil, v)) }

// str appends a string attribute with its closing zero.
func (b *batch) str(typ uint16, v string) { b.bytes(typ, append([]byte(v), 0)) }

// nest appends an attribute whose value is what fill appends.
func (b *batch) nest(typ uint16, fill func()) {
	at := len(b.buf)
	b.buf = order.AppendUint16(b.buf, 0)
	b.buf = order.AppendUint16(b.buf, typ|unix.NLA_F_NESTED)
	fill()
	order.PutUint16(b.buf[at:], uint16(len(b.buf)-at))
}

// err returns the first error that is not pardoned.
func (b *batch) err() error {
	for _, o := range b.ops {
		if o.err != nil && o.pardon != anyErrno && o.err.Errno != o.pardon {
			return o.err
		}
	}
	return nil
}

// attrs calls f for each attribute in data; the top two bits of the type (nested,
// byte order) are left out. A malformed rest is ignored: it comes from the kernel.
func attrs(data []byte, f func(typ uint16, v []byte)) {
	for len(data) >= unix.SizeofRtAttr {
		n := int(order.Uint16(data))
		if n < unix.SizeofRtAttr || n > len(data) {
			return
		}
		f(order.Uint16(data[2:])&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER), data[unix.SizeofRtAttr:n])
		data = data[min(align(n), len(data)):]
	}
}

func align(n int) int { return (n + 3) &^ 3 }

func text(v []byte) string { return unix.ByteSliceToString(v) }
