//go:build lab

package crash

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/tendril-cni/tendril/cni/netns"
	"github.com/tendril-cni/tendril/cni/netns/netnstest"
	"github.com/tendril-cni/tendril/tests/crash/sweep"
	"github.com/tendril-cni/tendril/vf"
)

// bondStand has a pod with a VF of each NIC and an active-backup bond over them,
// with that address.
func bondStand(t *testing.T, index int, address string) *sweep.Stand {
	t.Helper()
	var selections []string
	for _, pf := range []string{"sriov0", "sriov1"} {
		selections = append(selections, fmt.Sprintf(`{"name":"leg","deviceID":%q}`, nthVF(t, pf, index)))
	}
	return sweep.NewStand(t, sweep.Scene{Sysfs: "/sys", Annotation: `[` + strings.Join(selections, ",") + `,{"name":"both"}]`,
		Definitions: map[string]string{
			"leg": `{"cniVersion":"1.0.0","type":"sriov","spoofchk":"off","trust":"on"}`,
			"both": fmt.Sprintf(`{"cniVersion":"1.0.0","name":"both","plugins":[{"type":"bond","mode":"active-backup","miimon":"100","failOverMac":1,"linksInContainer":true,
				"links":[{"name":"net1"},{"name":"net2"}],"ipam":{"type":"static","addresses":[{"address":%q}]}},
				{"type":"tuning","sysctl":{"net.ipv4.conf.all.arp_ignore":"2"}}]}`, address),
		}, Default: `{"cniVersion":"1.0.0","name":"default","plugins":[{"type":"macvlan","master":"sriov1","ipam":{"type":"host-local","subnet":"203.0.113.0/29"}}]}`})
}

func bondWorld(s *sweep.Stand) string {
	return podLinks(s) + vfs(s.T, "sriov0") + vfs(s.T, "sriov1") + podSettings(s)
}

var bonds = sweep.Sweep{Attachments: 4, World: bondWorld, Stand: func(t *testing.T) *sweep.Stand { return bondStand(t, 0, "192.0.2.2/24") }}

func TestInvariant3SweepBond(t *testing.T) { bonds.JournalSteps(t) }

func TestInvariant3SweepBondKernelCalls(t *testing.T) { bonds.KernelCalls(t, 3) }

// TestBondFailsOver: two pods, each with a bond over a VF of either NIC, go on
// talking when one NIC's link is down; and their DEL, while it still is, is one
// transaction that leaves the VFs as they were.
func TestBondFailsOver(t *testing.T) {
	for _, pf := range []string{"sriov0", "sriov1"} { // without a carrier their VFs have none
		if out, err := exec.Command("ip", "link", "set", pf, "up").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	a, b := bondStand(t, 0, "192.0.2.2/24"), bondStand(t, 1, "192.0.2.3/24")
	before := bondWorld(a)
	for _, s := range []*sweep.Stand{a, b} {
		s.Start("", -1)
		t.Cleanup(func() { _ = s.Call("DEL") }) // of a test that failed: the VFs are the next one's
		if err := s.Call("ADD"); err != nil {
			t.Fatal(err)
		}
		prefer(t, s.Pod, "net1")
	}
	inside := netnstest.Handle(t, a.Pod)
	if l, ok := netnstest.Link(t, inside, "net3").(*netlink.Bond); !ok || l.Mode != netlink.BOND_MODE_ACTIVE_BACKUP {
		t.Fatalf("net3 is %v", l)
	}
	talk(t, a.Pod, b.Pod, "192.0.2.3")
	t.Cleanup(func() { _ = exec.Command("ip", "link", "set", "sriov0", "up").Run() })
	if out, err := exec.Command("ip", "link", "set", "sriov0", "down").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	second := netnstest.Link(t, inside, "net2").Attrs().Index
	for deadline := time.Now().Add(patience); netnstest.Link(t, inside, "net3").(*netlink.Bond).ActiveSlave != second; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the bond stays on the NIC that is down")
		}
	}
	talk(t, a.Pod, b.Pod, "192.0.2.3")
	if out, err := exec.Command("ip", "link", "set", "sriov0", "up").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, s := range []*sweep.Stand{a, b} {
		if err := s.Call("DEL"); err != nil {
			t.Error(err)
		}
	}
	if got := bondWorld(a); got != before {
		t.Errorf("after DEL the world is\n%s\nand was\n%s", got, before)
	}
}

// prefer makes a link of the pod its bond's active one, once it has a carrier. Which
// one that is otherwise is decided by whose carrier comes first, and the two NICs
// are no network together.
func prefer(t *testing.T, pod *os.File, name string) {
	t.Helper()
	inside := netnstest.Handle(t, pod)
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		bond, slave := netnstest.Link(t, inside, "net3").Attrs(), netnstest.Link(t, inside, name).Attrs()
		active := netlink.NewLinkBond(netlink.LinkAttrs{Index: bond.Index, Name: bond.Name})
		active.ActiveSlave = slave.Index
		err := inside.LinkModify(active)
		if now, ok := netnstest.Link(t, inside, "net3").(*netlink.Bond); err == nil && ok && now.ActiveSlave == slave.Index && slave.OperState == netlink.OperUp {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not become the active one: it is %s, %v", name, slave.OperState, err)
		}
	}
}

// talk waits until the pod reaches a listener in the other one.
func talk(t *testing.T, from, to *os.File, address string) {
	t.Helper()
	var ln net.Listener
	err := netns.Do(to, func() (err error) { ln, err = net.Listen("tcp", address+":0"); return err })
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	dial := func() error {
		return netns.Do(from, func() error {
			d := net.Dialer{Timeout: time.Second, FallbackDelay: -1}
			conn, err := d.Dial("tcp", ln.Addr().String())
			if err == nil {
				err = conn.Close()
			}
			return err
		})
	}
	for deadline := time.Now().Add(patience); err != nil || dial() != nil; {
		if time.Now().After(deadline) {
			t.Fatalf("%s is not reached: %v", address, errors.Join(err, dial()))
		}
	}
}

// routed is a VLAN in a VRF, tuned: kinds that only the machine's kernel has.
var routed = sweep.Sweep{Attachments: 3, World: func(s *sweep.Stand) string { return podLinks(s) + podSettings(s) }, Stand: func(t *testing.T) *sweep.Stand {
	return sweep.NewStand(t, sweep.Scene{Sysfs: "/sys", Annotation: "tagged", Definitions: map[string]string{
		"tagged": `{"cniVersion":"1.0.0","name":"tagged","plugins":[
			{"type":"vlan","master":"sriov0","vlanId":42,"ipam":{"type":"host-local","ranges":[[{"subnet":"192.0.2.0/29"}],[{"subnet":"fd00:42::/64"}]],"routes":[{"dst":"198.51.100.0/24","gw":"192.0.2.1"}]}},
			{"type":"tuning","mac":"02:00:00:00:00:42","sysctl":{"net.ipv4.conf.IFNAME.arp_filter":"1"}},
			{"type":"vrf","vrfname":"blue","table":7}]}`,
	}, Default: `{"cniVersion":"1.0.0","name":"default","plugins":[{"type":"macvlan","master":"sriov1","ipam":{"type":"host-local","subnet":"203.0.113.0/29"}}]}`})
}}

// TestInvariant3SweepVRF counts the VRF as one interface more.
func TestInvariant3SweepVRF(t *testing.T) { routed.JournalSteps(t) }

func TestInvariant3SweepVRFKernelCalls(t *testing.T) { routed.KernelCalls(t, 3) }

// nthVF is the address of a PF's VF by its number.
func nthVF(t *testing.T, pf string, index int) vf.Addr {
	t.Helper()
	link, err := os.Readlink(filepath.Join("/sys/class/net", pf, "device", fmt.Sprintf("virtfn%d", index)))
	if err != nil {
		t.Fatal(err)
	}
	a, err := vf.ParseAddr(filepath.Base(link))
	if err != nil {
		t.Fatal(err)
	}
	return a
}
