package takeover_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/sriov"
	"github.com/tendril-cni/tendril/cni/takeover"
	"github.com/tendril-cni/tendril/vf/sysfs"
)

// host has one VF and one namespace.
type host struct{}

func (host) Identify(path string) (cni.Netns, bool) {
	return cni.Netns{Path: "/proc/self/fd/9", Device: 4, Inode: 42}, path == "/var/run/netns/alive"
}

func (host) VF(address string) (string, int, string, error) {
	switch address {
	case "0000:01:10.2":
		return "0000:01:00.0", 1, "igbvf", nil
	case "0000:01:10.4":
		return "0000:01:00.0", 2, "vfio-pci", nil
	}
	return "", 0, "", errors.New("no such VF")
}

const (
	bridge  = `{"cniVersion":"0.3.1","name":"cbr0","type":"bridge","ipam":{"type":"host-local"}}`
	macvlan = `{"cniVersion":"0.3.1","name":"storage-net","plugins":[{"type":"macvlan","master":"m0","ipam":{"type":"whereabouts","range":"192.0.2.0/24"}}]}`
	plain   = `{"cniVersion":"0.3.1","type":"sriov","vlan":42,"spoofchk":"off","deviceID":"%s","pciBusID":"%s"}`
)

// node writes what Multus and sriov-cni write.
type node struct {
	t    *testing.T
	dirs takeover.Dirs
}

func newNode(t *testing.T) node {
	dir := t.TempDir()
	n := node{t, takeover.Dirs{Multus: filepath.Join(dir, "multus"), Sriov: filepath.Join(dir, "sriov")}}
	n.write(n.dirs.Multus, ".lock", "") // not a sandbox, and no JSON
	return n
}

func (n node) write(dir, name, text string) {
	n.t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		n.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		n.t.Fatal(err)
	}
}

func (n node) scratch(id string, delegates ...string) {
	n.write(n.dirs.Multus, id, "["+strings.Join(delegates, ",")+"]")
}

func delegate(name, config, more string) string {
	return fmt.Sprintf(`{"Conf":{},"ConfList":{},"Name":%q,"IsFilterV4Gateway":false,"Bytes":%q%s}`, name, base64.StdEncoding.EncodeToString([]byte(config)), more)
}

func (n node) result(network, id, ifName, netns string) {
	n.write(n.dirs.Multus, "results/"+network+"-"+id+"-"+ifName, fmt.Sprintf(`{"kind":"cniCacheV1","containerId":%q,"config":"e30=","ifName":%q,"networkName":%q,"netns":%q,
		"cniArgs":[["IgnoreUnknown","true"],["K8S_POD_NAMESPACE","blue"],["K8S_POD_NAME","p"],["K8S_POD_UID","u1"]],
		"capabilityArgs":{"mac":"02:00:00:00:00:05"},"result":{"cniVersion":"0.3.1","interfaces":[{"name":%q,"mac":"02:00:00:00:00:05","sandbox":%q}]}}`, id, ifName, network, netns, ifName, netns))
}

const vfState = `{"cniVersion":"0.3.1","name":"fast","type":"sriov","ipam":%s,"DPDKMode":false,"Master":"sriov0","MAC":"02:00:00:00:00:05","deviceID":"%s","VFID":1,
	"OrigVfState":{"HostIFName":"sriov0v1","SpoofChk":true,"Trust":false,"AdminMAC":"","EffectiveMAC":"0A:00:00:00:00:01","Vlan":0,"VlanQoS":0,"VlanProto":33024,"MinTxRate":0,"MaxTxRate":0,"LinkState":0,"MTU":1500},
	"vlan":42,"spoofchk":"off"}`

// live is a pod with a default network, a VF without addresses and a macvlan.
func live(t *testing.T) node {
	n := newNode(t)
	n.scratch("c1", delegate("cbr0", bridge, ""),
		delegate("blue/fast", fmt.Sprintf(plain, "0000:01:10.2", "0000:01:10.2"), `,"deviceID":"0000:01:10.2","resourceName":"vendor.com/vf"`),
		delegate("blue/storage", macvlan, `,"ifnameRequest":"store0","macRequest":"02:00:00:00:00:05"`))
	n.result("cbr0", "c1", "eth0", "/var/run/netns/alive")
	n.result("fast", "c1", "net1", "/var/run/netns/alive")
	n.result("storage-net", "c1", "store0", "/var/run/netns/alive")
	n.write(n.dirs.Sriov, "c1-net1", fmt.Sprintf(vfState, "{}", "0000:01:10.2"))
	n.write(n.dirs.Sriov, "pci/0000:01:10.2", "/var/run/netns/alive")
	return n
}

func read(t *testing.T, n node) map[string][]cni.Record {
	t.Helper()
	got, err := takeover.Read(n.dirs, host{})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestSandboxOfALiveMultus(t *testing.T) {
	got := read(t, live(t))["c1"]
	var lines []string
	for _, r := range got {
		a := r.Attachment
		lines = append(lines, fmt.Sprintf("%d %s %s %s call=%s pod=%s/%s %s@%d default=%v device=%s %v", r.Order, a.IfName, a.Network, a.Kind, a.Call, a.Pod, a.Pod.UID, a.Netns.Path, a.Netns.Inode, a.Default, a.Device, r.Imported))
	}
	want := []string{
		"0 eth0 cbr0 exec call=eth0 pod=blue/p/u1 /var/run/netns/alive@42 default=true device= true",
		"1 net1 blue/fast sriov call=eth0 pod=blue/p/u1 /var/run/netns/alive@42 default=false device=0000:01:10.2 true",
		"2 store0 blue/storage exec call=eth0 pod=blue/p/u1 /var/run/netns/alive@42 default=false device= true",
	}
	if d := cmp.Diff(want, lines); d != "" {
		t.Fatal(d)
	}
	if a := got[2].Attachment; a.CNIArgs != "IgnoreUnknown=true;K8S_POD_NAMESPACE=blue;K8S_POD_NAME=p;K8S_POD_UID=u1" || string(a.RuntimeConfig["mac"]) != `"02:00:00:00:00:05"` ||
		a.Config.Plugins[0].Type != "macvlan" || a.Selection.Interface != "store0" || !strings.Contains(string(got[2].Result), "02:00:00:00:00:05") {
		t.Errorf("what the plugin's DEL needs is not all there: %+v, result %s", a, got[2].Result)
	}
	wantPrior := `{"vf":"0000:01:10.2","pf":"0000:01:00.0","index":1,"driver":"igbvf","netdev":"sriov0v1","mac":"0a:00:00:00:00:01","mtu":1500,` +
		`"attributes":{"mac":"00:00:00:00:00:00","vlan":{"id":0,"qos":0,"proto":"802.1q"},"rates":{"min":0,"max":0},"spoofChk":true,"trust":false,"linkState":"auto"},"asked":["mac","spoofchk","vlan"]}`
	if string(got[1].Prior) != wantPrior {
		t.Errorf("prior state of the VF is\n%s\nwant\n%s", got[1].Prior, wantPrior)
	}
	if l := got[1].Link; l.MAC != "02:00:00:00:00:05" || l.PCI != "0000:01:10.2" {
		t.Errorf("the VF is known as %+v", l)
	}
}

// TestPriorIsWhatTheDriverReads: the note is another package's. On a host without
// the VF its Detach reads the note and has nothing more to do.
func TestPriorIsWhatTheDriverReads(t *testing.T) {
	rec := read(t, live(t))["c1"][1]
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "bus/pci/devices"), 0o755); err != nil {
		t.Fatal(err)
	}
	d := sriov.New(sysfs.New(root), slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err := d.Detach(context.Background(), nil, rec); err != nil {
		t.Errorf("the driver refuses the note: %v", err)
	}
	rec.Prior = json.RawMessage(`{"vf":"0000:01:10.2"}`)
	if err := d.Detach(context.Background(), nil, rec); err == nil {
		t.Error("the driver takes a note without a PF: the test shows nothing")
	}
}

// TestVFStaysItsPluginsOwn where Tendril could not give everything back.
func TestVFStaysItsPluginsOwn(t *testing.T) {
	for name, harm := range map[string]func(n node){
		"with addresses": func(n node) {
			n.write(n.dirs.Sriov, "c1-net1", fmt.Sprintf(vfState, `{"type":"whereabouts"}`, "0000:01:10.2"))
		},
		"without a file":     func(n node) { os.Remove(filepath.Join(n.dirs.Sriov, "c1-net1")) },
		"file of another VF": func(n node) { n.write(n.dirs.Sriov, "c1-net1", fmt.Sprintf(vfState, "{}", "0000:01:10.6")) },
	} {
		t.Run(name, func(t *testing.T) {
			n := live(t)
			harm(n)
			if r := read(t, n)["c1"][1]; r.Attachment.Kind != cni.KindExec || r.Attachment.Device != "0000:01:10.2" || len(r.Result) == 0 {
				t.Errorf("the VF is of kind %s, want exec", r.Attachment.Kind)
			}
		})
	}
}

func TestUserspaceVFHasNoDevice(t *testing.T) {
	n := newNode(t)
	n.scratch("c1", delegate("cbr0", bridge, ""), delegate("blue/fast", fmt.Sprintf(plain, "0000:01:10.4", "0000:01:10.4"), `,"deviceID":"0000:01:10.4"`))
	n.write(n.dirs.Sriov, "c1-net1", fmt.Sprintf(vfState, "{}", "0000:01:10.4"))
	r := read(t, n)["c1"][1]
	if r.Attachment.Kind != cni.KindSriov || strings.Contains(string(r.Prior), "netdev") || !strings.Contains(string(r.Prior), "vfio-pci") {
		t.Errorf("kind %s, prior %s", r.Attachment.Kind, r.Prior)
	}
}

// TestBadFilesDoNotHoldUpTheRest: Multus writes them without care.
func TestBadFilesDoNotHoldUpTheRest(t *testing.T) {
	n := live(t)
	n.scratch("torn", `{"Name":"x","Bytes"`)
	n.scratch("empty", delegate("cbr0", "", ""))
	n.write(n.dirs.Multus, "results/x-torn-eth0", `{"kind":`)
	got, err := takeover.Read(n.dirs, host{})
	if len(got) != 1 || len(got["c1"]) != 3 {
		t.Errorf("read %d sandboxes, want c1 alone", len(got))
	}
	for _, name := range []string{"torn", "empty", "x-torn-eth0"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("error = %v, want it to name %s", err, name)
		}
	}
}

func TestSandboxThatEndedKeepsNoIdentity(t *testing.T) {
	n := newNode(t)
	n.scratch("c1", delegate("cbr0", bridge, ""), delegate("blue/storage", macvlan, ""))
	n.result("cbr0", "c1", "eth0", "/var/run/netns/dead")
	got := read(t, n)["c1"]
	if a := got[1].Attachment; a.IfName != "net1" || a.Netns != (cni.Netns{Path: "/var/run/netns/dead"}) || a.Pod.Name != "p" {
		t.Errorf("net1 is %+v", a)
	}
}

func TestForgetLeavesOtherSandboxesAlone(t *testing.T) {
	n := live(t)
	n.scratch("c10", delegate("cbr0", bridge, ""))
	n.result("cbr0", "c10", "eth0", "/var/run/netns/other")
	vf := read(t, n)["c1"][1].Attachment
	for range 2 {
		if err := errors.Join(takeover.Release(n.dirs, vf), takeover.Forget(n.dirs, "c1", []string{"eth0", "net1", "store0"})); err != nil {
			t.Fatal(err)
		}
	}
	var left []string
	for _, dir := range []string{n.dirs.Multus, n.dirs.Sriov} {
		_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				left = append(left, filepath.Base(path))
			}
			return nil
		})
	}
	if d := cmp.Diff([]string{".lock", "c10", "cbr0-c10-eth0"}, left); d != "" {
		t.Error(d)
	}
}

func TestReleaseOfAVFThatAnotherPodHasByNow(t *testing.T) {
	n := live(t)
	vf := read(t, n)["c1"][1].Attachment
	n.write(n.dirs.Sriov, "pci/0000:01:10.2", "/var/run/netns/next")
	if err := takeover.Release(n.dirs, vf); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(n.dirs.Sriov, "pci/0000:01:10.2")); err != nil {
		t.Error("the next pod's note is gone")
	}
}

func TestNodeWithoutMultus(t *testing.T) {
	got, err := takeover.Read(takeover.Dirs{Multus: filepath.Join(t.TempDir(), "none")}, host{})
	if err != nil || len(got) != 0 {
		t.Errorf("read %v (%v), want nothing", got, err)
	}
}
