package netns

import (
	"testing"

	"golang.org/x/sys/unix"
)

// FuzzAnswers: whatever arrives on the socket, reading it neither panics nor
// claims to have finished more messages than were sent.
func FuzzAnswers(f *testing.F) {
	ack := order.AppendUint32(nil, 36)
	ack = order.AppendUint16(ack, unix.NLMSG_ERROR)
	ack = order.AppendUint16(ack, 0)
	ack = order.AppendUint32(ack, 1)
	f.Add(append(ack, make([]byte, 24)...))
	var b batch
	b.begin("create", "net1", unix.RTM_NEWLINK, 0)
	b.info(0, 7, 1, 1)
	b.str(unix.IFLA_IFNAME, "net1")
	b.hardware([]byte{2, 0, 0, 0, 0, 1}, 1500)
	b.nest(unix.IFLA_LINKINFO, func() {
		b.str(unix.IFLA_INFO_KIND, "macvlan")
		b.nest(unix.IFLA_INFO_DATA, func() { b.u32(unix.IFLA_MACVLAN_MODE, 4) })
	})
	b.close()
	order.PutUint32(b.buf[8:], 1)
	f.Add(b.buf)
	f.Fuzz(func(t *testing.T, data []byte) {
		reply := func(typ uint16, body []byte) {
			parseLink(typ, body)
			parseID(body)
			defaultRoute(body)
			if len(body) >= unix.SizeofIfAddrmsg {
				parseAddress(body)
			}
		}
		ops := []*op{{reply: reply}, {reply: reply}}
		if n := answers(data, ops, 1); n < 0 || n > len(ops) {
			t.Errorf("%d of %d messages answered", n, len(ops))
		}
	})
}
