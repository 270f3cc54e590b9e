package conformance

import (
	"testing"

	"github.com/tendril-cni/tendril/cni/netns/netnstest"
)

// BenchmarkAddDel is one ADD and one DEL of an executable, by side: the ratio is
// what counts.
func BenchmarkAddDel(b *testing.B) {
	for _, ipam := range []string{"single stack", "dual stack"} {
		c := conf("macvlan", "master", "up0", "ipam", hostLocal("10.1.0.0/16"))
		if ipam == "dual stack" {
			c = conf("macvlan", "master", "up0", "ipam", hostLocal("10.1.0.0/16", "2001:db8::/64"))
		}
		for _, name := range []string{"reference", "tendril"} {
			b.Run(ipam+"/"+name, func(b *testing.B) {
				s := newSide(b, name)
				for b.Loop() {
					s.must(call{verb: "ADD", conf: c})
					s.must(call{verb: "DEL", conf: c})
				}
				netnstest.Absent(b, s.handle(s.pod), "net1")
			})
			b.Run(ipam+"/ADD alone/"+name, func(b *testing.B) {
				s := newSide(b, name)
				for b.Loop() {
					s.must(call{verb: "ADD", conf: c})
					b.StopTimer()
					s.must(call{verb: "DEL", conf: c})
					b.StartTimer()
				}
			})
		}
	}
}
