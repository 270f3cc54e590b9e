package macvlan_test

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netns/netnstest"
)

// The two benchmarks make the same thing, a complete macvlan with an address and
// a default route in a fresh pod: BenchmarkAttach with everything the driver does
// from Prior to the observed link, BenchmarkFloor with one message run and no
// look at anything. Their ratio is what the driver costs; the goal is 2 at most.

// batchOfPods bounds the namespaces that are open at a time. Their making and
// their end are not measured.
const batchOfPods = 32

func benchmark(b *testing.B, run func(pod *os.File)) {
	for done := 0; done < b.N; {
		b.StopTimer()
		n := min(batchOfPods, b.N-done)
		pods := make([]*os.File, n)
		for i := range pods {
			pods[i] = netnstest.Pod(b)
		}
		runtime.GC()
		b.StartTimer()
		for _, pod := range pods {
			run(pod)
		}
		b.StopTimer()
		for _, pod := range pods {
			pod.Close()
		}
		done += n
		b.StartTimer()
	}
}

func BenchmarkAttach(b *testing.B) {
	master, _ := netnstest.Veth(b)
	d := driver()
	a := attachment(`{"master":"%s"}`, master.Attrs().Name)
	a.Addresses = []cni.Address{{Prefix: netip.MustParsePrefix("10.1.0.5/24")}}
	a.Routes = []cni.Route{{Dst: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr("10.1.0.1")}}
	benchmark(b, func(pod *os.File) { mustAttach(b, d, pod, a) })
}

// BenchmarkAttachToFloor does both by turns, so that a busy machine is as bad for
// the one as for the other, and reports their medians and the ratio of these.
func BenchmarkAttachToFloor(b *testing.B) {
	master, _ := netnstest.Veth(b)
	d := driver()
	a := attachment(`{"master":"%s"}`, master.Attrs().Name)
	a.Addresses = []cni.Address{{Prefix: netip.MustParsePrefix("10.1.0.5/24")}}
	a.Routes = []cni.Route{{Dst: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr("10.1.0.1")}}
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		b.Fatal(err)
	}
	defer home.Close()
	msg := bare(int(home.Fd()), master.Attrs().Index)
	var took [2][]time.Duration
	turn := 0
	b.ResetTimer()
	benchmark(b, func(pod *os.File) {
		start := time.Now()
		if turn++; turn%2 == 0 {
			mustAttach(b, d, pod, a)
		} else if err := floor(home, pod, msg); err != nil {
			b.Fatal(err)
		}
		took[turn%2] = append(took[turn%2], time.Since(start))
	})
	if len(took[0]) == 0 {
		return
	}
	attach, floor := median(took[0]), median(took[1])
	b.ReportMetric(float64(attach.Microseconds()), "attach-us")
	b.ReportMetric(float64(floor.Microseconds()), "floor-us")
	b.ReportMetric(float64(attach)/float64(floor), "attach/floor")
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

func BenchmarkAttachDualStack(b *testing.B) {
	master, _ := netnstest.Veth(b)
	d := driver()
	a := attachment(`{"master":"%s"}`, master.Attrs().Name)
	a.Addresses = []cni.Address{{Prefix: netip.MustParsePrefix("10.1.0.5/24")}, {Prefix: netip.MustParsePrefix("2001:db8::5/64")}}
	a.Routes = []cni.Route{{Dst: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr("10.1.0.1")}, {Dst: netip.MustParsePrefix("::/0"), Via: netip.MustParseAddr("2001:db8::1")}}
	benchmark(b, func(pod *os.File) { mustAttach(b, d, pod, a) })
}

func BenchmarkFloor(b *testing.B) {
	master, _ := netnstest.Veth(b)
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		b.Fatal(err)
	}
	defer home.Close()
	msg := bare(int(home.Fd()), master.Attrs().Index)
	benchmark(b, func(pod *os.File) {
		if err := floor(home, pod, msg); err != nil {
			b.Fatal(err)
		}
	})
}

// floor opens a socket in the pod, sends msg and reads an answer a message.
func floor(home, pod *os.File, msg []byte) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Setns(int(pod.Fd()), unix.CLONE_NEWNET); err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err := errors.Join(err, unix.Setns(int(home.Fd()), unix.CLONE_NEWNET)); err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Sendto(fd, msg, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	var answer [4096]byte
	for range 6 {
		n, _, err := unix.Recvfrom(fd, answer[:], 0)
		if err != nil || n < 20 {
			return err
		}
		if errno := -int32(binary.NativeEndian.Uint32(answer[16:])); errno != 0 {
			return unix.Errno(errno)
		}
	}
	return nil
}

// bare builds the six messages: id of the host's namespace, link, arp_notify,
// address, up, default route.
func bare(home, master int) []byte {
	const index, nsid = 100, 0
	ne := binary.NativeEndian
	var out []byte
	attr := func(typ uint16, v ...byte) []byte {
		a := ne.AppendUint16(ne.AppendUint16(nil, uint16(4+len(v))), typ)
		a = append(a, v...)
		return append(a, make([]byte, (4-len(a)%4)%4)...)
	}
	num := func(typ uint16, v uint32) []byte { return attr(typ, ne.AppendUint32(nil, v)...) }
	add := func(typ, flags uint16, parts ...[]byte) {
		var body []byte
		for _, p := range parts {
			body = append(body, p...)
		}
		out = ne.AppendUint32(out, uint32(16+len(body)))
		out = ne.AppendUint16(out, typ)
		out = ne.AppendUint16(out, unix.NLM_F_REQUEST|unix.NLM_F_ACK|flags)
		out = append(append(out, make([]byte, 8)...), body...)
	}
	info := func(flags uint32) []byte {
		b := ne.AppendUint32(make([]byte, 4), index)
		return ne.AppendUint32(ne.AppendUint32(b, flags), flags)
	}
	add(unix.RTM_NEWNSID, 0, make([]byte, 4), num(unix.NETNSA_FD, uint32(home)), num(unix.NETNSA_NSID, nsid))
	data := attr(unix.IFLA_INFO_DATA, num(unix.IFLA_MACVLAN_MODE, 4)...)
	add(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, info(0), attr(unix.IFLA_IFNAME, []byte("net1\x00")...),
		num(unix.IFLA_LINK, uint32(master)), num(unix.IFLA_LINK_NETNSID, nsid),
		attr(unix.IFLA_LINKINFO, append(attr(unix.IFLA_INFO_KIND, []byte("macvlan")...), data...)...))
	add(unix.RTM_SETLINK, 0, info(0), attr(unix.IFLA_AF_SPEC, attr(unix.AF_INET, attr(unix.IFLA_INET_CONF, num(22, 1)...)...)...))
	address := append([]byte{unix.AF_INET, 24, 0, 0}, ne.AppendUint32(nil, index)...)
	add(unix.RTM_NEWADDR, unix.NLM_F_CREATE, address, attr(unix.IFA_LOCAL, 10, 1, 0, 5), attr(unix.IFA_ADDRESS, 10, 1, 0, 5))
	add(unix.RTM_SETLINK, 0, info(unix.IFF_UP))
	route := []byte{unix.AF_INET, 0, 0, 0, unix.RT_TABLE_MAIN, unix.RTPROT_STATIC, unix.RT_SCOPE_UNIVERSE, unix.RTN_UNICAST, 0, 0, 0, 0}
	add(unix.RTM_NEWROUTE, unix.NLM_F_CREATE, route, attr(unix.RTA_GATEWAY, 10, 1, 0, 1), num(unix.RTA_OIF, index))
	return out
}
