//go:build lab

package ipvlan_test

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netns"
	"github.com/tendril-cni/tendril/cni/netns/netnstest"
)

// reach opens a TCP connection from one pod to an address of another.
func reach(t *testing.T, from, to *os.File, address string) error {
	t.Helper()
	var ln net.Listener
	err := netns.Do(to, func() (err error) {
		ln, err = net.Listen("tcp", net.JoinHostPort(address, "7000"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return netns.Do(from, func() error {
		// The dialer's own goroutines would leave this thread: a literal address and
		// no fallback keep it to one socket call here.
		d := net.Dialer{Timeout: time.Second, FallbackDelay: -1}
		conn, err := d.Dial("tcp", ln.Addr().String())
		if err == nil {
			err = conn.Close()
		}
		return err
	})
}

// TestSubnetsOfOneMasterReachEachOther in l3, as docker's ipvlan does it; in l2
// each would need a router.
func TestSubnetsOfOneMasterReachEachOther(t *testing.T) {
	for _, mode := range []string{"l3", "l3s"} {
		t.Run(mode, func(t *testing.T) {
			master, _ := netnstest.Veth(t)
			d := driver()
			var pods []*os.File
			for i, p := range []string{"192.168.214.2/24", "10.1.214.2/24"} {
				pod := netnstest.Pod(t)
				a := attachment(`{"master":"%s","mode":"`+mode+`"}`, master.Attrs().Name)
				a.ContainerID = []string{"one", "two"}[i]
				a.Addresses = addresses(p)
				a.Routes = []cni.Route{{Dst: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParsePrefix(p).Addr().Prev()}}
				mustAttach(t, d, pod, a)
				pods = append(pods, pod)
			}
			deadline := time.Now().Add(10 * time.Second)
			err := errors.New("not tried")
			for err != nil && time.Now().Before(deadline) {
				err = reach(t, pods[0], pods[1], "10.1.214.2")
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// TestFlagPrivateKeepsPodsApart.
func TestFlagPrivateKeepsPodsApart(t *testing.T) {
	for flag, apart := range map[string]bool{"bridge": false, "private": true} {
		t.Run(flag, func(t *testing.T) {
			master, _ := netnstest.Veth(t)
			d := driver()
			var pods []*os.File
			for i, p := range []string{"10.4.0.2/24", "10.4.0.3/24"} {
				pod := netnstest.Pod(t)
				a := attachment(`{"master":"%s","flag":"`+flag+`"}`, master.Attrs().Name)
				a.ContainerID = []string{"one", "two"}[i]
				a.Addresses = addresses(p)
				mustAttach(t, d, pod, a)
				pods = append(pods, pod)
			}
			var err error
			for range 3 {
				if err = reach(t, pods[0], pods[1], "10.4.0.3"); err == nil {
					break
				}
			}
			if (err != nil) != apart {
				t.Errorf("reaching the other pod: %v", err)
			}
		})
	}
	// The flag is the master's, as the mode is.
	master, _ := netnstest.Veth(t)
	mustAttach(t, driver(), netnstest.Pod(t), attachment(`{"master":"%s","flag":"vepa"}`, master.Attrs().Name))
	_, err := attach(driver(), netnstest.Pod(t), attachment(`{"master":"%s"}`, master.Attrs().Name))
	refused(t, err, "flag", "bridge", "vepa")
}
