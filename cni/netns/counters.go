package netns

import (
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"
)

// Counters are what a link counts since it was made (struct rtnl_link_stats64 of
// linux/if_link.h; its order of fields is theirs here).
type Counters struct {
	RxPackets, TxPackets, RxBytes, TxBytes, RxErrors, TxErrors, RxDropped, TxDropped, Multicast uint64
}

// Counters reads the counters of the link with that index. ErrNotFound if there is
// none.
func (c *Conn) Counters(index int) (Counters, error) {
	var out Counters
	found := false
	var b batch
	// Unlike in get, the answer has the counters.
	o := b.begin("read", "counters of link "+strconv.Itoa(index), unix.RTM_GETLINK, 0)
	b.info(unix.AF_UNSPEC, index, 0, 0)
	o.reply = func(typ uint16, body []byte) {
		if typ == unix.RTM_NEWLINK && len(body) >= unix.SizeofIfInfomsg {
			attrs(body[unix.SizeofIfInfomsg:], func(typ uint16, v []byte) {
				found = typ == unix.IFLA_STATS64 && out.fill(v) || found
			})
		}
	}
	err := c.run(&b)
	switch {
	case o.err != nil && o.err.Errno == unix.ENODEV:
		return out, fmt.Errorf("read %s: %w", o.object, ErrNotFound)
	case err != nil:
		return out, err
	case !found:
		return out, fmt.Errorf("read %s: none in the kernel's answer", o.object)
	}
	return out, nil
}

func (c *Counters) fill(v []byte) bool {
	fields := []*uint64{&c.RxPackets, &c.TxPackets, &c.RxBytes, &c.TxBytes, &c.RxErrors, &c.TxErrors, &c.RxDropped, &c.TxDropped, &c.Multicast}
	if len(v) < 8*len(fields) {
		return false
	}
	for i, f := range fields {
		*f = order.Uint64(v[8*i:])
	}
	return true
}
