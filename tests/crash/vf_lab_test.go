//go:build lab

package crash

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tendril-cni/tendril/tests/crash/sweep"
	"github.com/tendril-cni/tendril/vf"
	"github.com/tendril-cni/tendril/vf/link"
	"github.com/tendril-cni/tendril/vf/sysfs"
)

// vfPod is a VF with VLAN and MAC, and an ipvlan, beside a macvlan as default
// network.
func vfPod(t *testing.T) sweep.Sweep {
	device := firstVF(t, "sriov0")
	return sweep.Sweep{Attachments: 3, World: func(s *sweep.Stand) string { return podLinks(s) + vfs(s.T, "sriov0") }, Stand: func(t *testing.T) *sweep.Stand {
		return sweep.NewStand(t, sweep.Scene{Sysfs: "/sys",
			Annotation: `[{"name":"fast","deviceID":"` + device.String() + `","mac":"02:00:00:00:00:42"},{"name":"signal"}]`,
			Definitions: map[string]string{
				"fast":   `{"cniVersion":"1.0.0","type":"sriov","vlan":42,"spoofchk":"off","ipam":{"type":"host-local","subnet":"192.0.2.0/29"}}`,
				"signal": `{"cniVersion":"1.0.0","type":"ipvlan","master":"sriov0","ipam":{"type":"host-local","subnet":"198.51.100.0/29"}}`,
			}, Default: `{"cniVersion":"1.0.0","name":"default","plugins":[{"type":"macvlan","master":"sriov1","ipam":{"type":"host-local","subnet":"203.0.113.0/29"}}]}`})
	}}
}

func TestInvariant3SweepVF(t *testing.T) { vfPod(t).JournalSteps(t) }

func TestInvariant3SweepVFKernelCalls(t *testing.T) { vfPod(t).KernelCalls(t, 1) }

func firstVF(t *testing.T, pf string) vf.Addr {
	t.Helper()
	snap, _, err := sysfs.New("/sys").Scan()
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range snap.VFs {
		if p, ok := snap.PF(v.PF); ok && p.Netdev == pf {
			return v.Addr
		}
	}
	t.Fatalf("%s has no VFs", pf)
	return vf.Addr{}
}

// ownAddress is the MAC of a VF's device on the host, empty while it is in a pod.
// A PF that nobody has told one shows it, or zeros until the VF's driver has said
// it again after a reset.
func ownAddress(pf, index string) string {
	files, _ := filepath.Glob("/sys/class/net/" + pf + "/device/virtfn" + index + "/net/*/address")
	if len(files) == 0 {
		return ""
	}
	mac, _ := os.ReadFile(files[0])
	return strings.TrimSpace(string(mac))
}

// vfs prints what the PF has set for its VFs, and each VF's device with MAC and
// MTU as the host has it. It stays one line, so that podLinks' lines can be
// counted.
func vfs(t *testing.T, pf string) string {
	t.Helper()
	out, err := exec.Command("ip", "link", "show", pf).Output()
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) > 3 && f[0] == "vf" {
			if f[3] == link.ZeroMAC || f[3] == ownAddress(pf, f[1]) {
				f[3] = "its own"
			}
			words = append(words, strings.Join(f, " "))
		}
	}
	devices, _ := filepath.Glob("/sys/class/net/" + pf + "/device/virtfn*/net/*")
	for _, d := range devices {
		mac, _ := os.ReadFile(filepath.Join(d, "address"))
		mtu, _ := os.ReadFile(filepath.Join(d, "mtu"))
		words = append(words, filepath.Base(d), strings.TrimSpace(string(mac)), strings.TrimSpace(string(mtu)))
	}
	return strings.Join(words, "; ")
}
