package link_test

import (
	"encoding/binary"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tendril-cni/tendril/vf/link"
)

func u64(v uint64) []byte { return binary.NativeEndian.AppendUint64(nil, v) }

// TestParseCounters has the numbers of linux/if_link.h: the padding (6) lies
// before the dropped packets.
func TestParseCounters(t *testing.T) {
	mac := func(vf uint32) []byte { return nla(1, u32s(vf), make([]byte, 32)) }
	busy := nla(1, mac(5), nla(8, nla(0, u64(10)), nla(1, u64(20)), nla(2, u64(1000)), nla(3, u64(2000)),
		nla(4, u64(3)), nla(5, u64(4)), nla(6), nla(7, u64(5)), nla(8, u64(6)), nla(99, u64(7))))
	silent := nla(1, mac(1))
	got, err := link.ParseCounters(append(nla(3, []byte("sriov0\x00")), nla(22, busy, silent)...))
	want := map[int]link.Counters{
		5: {RxPackets: 10, TxPackets: 20, RxBytes: 1000, TxBytes: 2000, RxBroadcast: 3, RxMulticast: 4, RxDropped: 5, TxDropped: 6},
		1: {},
	}
	if d := cmp.Diff(want, got); err != nil || d != "" {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
	if got, err := link.ParseCounters(nil); err != nil || len(got) != 0 {
		t.Errorf("of a device without VFs: %v, %v", got, err)
	}
}
