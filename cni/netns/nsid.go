package netns

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// A namespace knows others by small numbers of its own (ip-netns(8), "nsid"),
// and only through them can a link name a parent elsewhere, or a socket read
// links elsewhere.

// Know gives ns an id in c's namespace if it has none, so that Children sees
// what is inside.
func (c *Conn) Know(ns *os.File) error {
	var b batch
	b.assignID(ns)
	err := c.run(&b)
	runtime.KeepAlive(ns)
	return err
}

// Children returns the links of one kind that ride on the link with that index,
// in c's own namespace and in every one that c's namespace knows. Use it where a
// refusal wants to name them: it asks each of those namespaces.
func (c *Conn) Children(parent int, kind string) ([]Link, error) {
	own, err := c.LinksOfKind(kind)
	if err != nil {
		return nil, err
	}
	var found []Link
	for _, l := range own {
		if l.Parent == parent && l.ParentNSID == here {
			found = append(found, l)
		}
	}
	ids, err := c.known()
	if err != nil {
		return nil, err
	}
	var there []Link
	for _, id := range ids {
		// A namespace that went since, or is not ours to read, has no say.
		if ls, err := c.links(kind, id); err == nil {
			there = append(there, ls...)
		}
	}
	// Only now: reading the links may have been what gave us an id.
	self, err := c.ownID()
	if err != nil {
		return nil, err
	}
	for _, l := range there {
		if l.Parent == parent && l.ParentNSID != here && l.ParentNSID == self {
			found = append(found, l)
		}
	}
	return found, nil
}

// known returns the ids of all namespaces that c's namespace knows.
func (c *Conn) known() ([]int, error) {
	var ids []int
	err := c.dump("namespace ids", func(b *batch) *op {
		ids = nil
		o := b.begin("read", "namespace ids", unix.RTM_GETNSID, unix.NLM_F_DUMP)
		b.genmsg()
		o.reply = func(_ uint16, body []byte) {
			if id := parseID(body); id >= 0 {
				ids = append(ids, id)
			}
		}
		return o
	})
	return ids, err
}

// ownID returns the id of c's namespace in itself, -1 if it has none. The kernel
// gives it one when it first has to report a link elsewhere with a parent here.
func (c *Conn) ownID() (int, error) {
	ns, err := c.ns, error(nil)
	if ns == nil {
		if ns, err = host(); err != nil {
			return -1, err
		}
	}
	var b batch
	id := -1
	b.readID(ns, &id)
	err = c.run(&b)
	runtime.KeepAlive(ns)
	if err != nil {
		return -1, fmt.Errorf("read own namespace id: %w", err)
	}
	return id, nil
}

// assignID adds the message that lets the kernel choose an id for ns. One that
// has an id keeps it.
func (b *batch) assignID(ns *os.File) {
	b.begin("assign", "id of network namespace "+ns.Name(), unix.RTM_NEWNSID, 0).pardon = unix.EEXIST
	b.genmsg()
	b.u32(unix.NETNSA_FD, uint32(ns.Fd()))
	b.u32(unix.NETNSA_NSID, ^uint32(0)) // -1
}

// readID adds the message that reads the id of ns into id.
func (b *batch) readID(ns *os.File, id *int) {
	o := b.begin("read", "id of network namespace "+ns.Name(), unix.RTM_GETNSID, 0)
	b.genmsg()
	b.u32(unix.NETNSA_FD, uint32(ns.Fd()))
	o.reply = func(_ uint16, body []byte) { *id = parseID(body) }
}

// genmsg appends a struct rtgenmsg, padded.
func (b *batch) genmsg() { b.buf = append(b.buf, unix.AF_UNSPEC, 0, 0, 0) }

// parseID returns the id in the answer to RTM_GETNSID, -1 for none.
func parseID(body []byte) int {
	id := -1
	if len(body) < 4 {
		return id
	}
	attrs(body[4:], func(typ uint16, v []byte) {
		if typ == unix.NETNSA_NSID && len(v) == 4 {
			id = int(int32(order.Uint32(v)))
		}
	})
	return id
}
