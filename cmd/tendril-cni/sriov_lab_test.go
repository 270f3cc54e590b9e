//go:build lab

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/tendril-cni/tendril/cni/netns/netnstest"
)

// TestMain is the executable too, when it is called by its name.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "sriov" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// executable is sriov as a runtime without a daemon runs it.
type executable struct {
	*testing.T
	path string
	pf   string
}

func newExecutable(t *testing.T) executable {
	t.Helper()
	e := executable{t, filepath.Join(t.TempDir(), "sriov"), "sriov0"}
	self, err := os.Executable()
	if err == nil {
		err = os.Symlink(self, e.path)
	}
	if err != nil {
		t.Fatal(err)
	}
	pf, err := netlink.LinkByName(e.pf)
	if err == nil {
		err = netlink.LinkSetUp(pf)
	}
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// call runs one verb and returns what was printed. pod is nil for verbs that have
// none.
func (e executable) call(verb, container string, pod *os.File, conf map[string]any) (map[string]any, error) {
	e.Helper()
	stdin, err := json.Marshal(conf)
	if err != nil {
		e.Fatal(err)
	}
	var out, log bytes.Buffer
	cmd := exec.CommandContext(e.Context(), e.path)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &out, &log
	cmd.Env = append(os.Environ(), "CNI_COMMAND="+verb, "CNI_CONTAINERID="+container, "CNI_IFNAME=net1", "CNI_PATH=/nowhere")
	if pod != nil {
		cmd.Env = append(cmd.Env, fmt.Sprintf("CNI_NETNS=/proc/%d/fd/%d", os.Getpid(), pod.Fd()))
	}
	failed := cmd.Run()
	var answer map[string]any
	if out.Len() > 0 {
		if err := json.Unmarshal(out.Bytes(), &answer); err != nil {
			e.Fatalf("%s printed what is no JSON: %s", verb, out.String())
		}
	}
	if failed != nil {
		failed = fmt.Errorf("%s: %w: %s%s", verb, failed, out.String(), log.String())
	}
	return answer, failed
}

func (e executable) must(verb, container string, pod *os.File, conf map[string]any) map[string]any {
	e.Helper()
	answer, err := e.call(verb, container, pod, conf)
	if err != nil {
		e.Fatal(err)
	}
	return answer
}

// vf is the first VF: its address, and how PF and host see it.
func (e executable) vf() (device, seen string) {
	e.Helper()
	target, err := os.Readlink("/sys/class/net/" + e.pf + "/device/virtfn0")
	if err != nil {
		e.Fatal(err)
	}
	pf, err := netlink.LinkByName(e.pf)
	if err != nil {
		e.Fatal(err)
	}
	device = filepath.Base(target)
	names, err := filepath.Glob("/sys/bus/pci/devices/" + device + "/net/*")
	if err != nil {
		e.Fatal(err)
	}
	for _, i := range pf.Attrs().Vfs {
		if i.ID == 0 {
			seen = fmt.Sprintf("%v vlan %d qos %d spoof check %v trust %d mac %s", names, i.Vlan, i.Qos, i.Spoofchk, i.Trust, i.Mac)
		}
	}
	return device, seen
}

// TestInvariant4SriovExecutable: without a daemon too a VF has one owner and comes
// back as it was.
func TestInvariant4SriovExecutable(t *testing.T) {
	e := newExecutable(t)
	device, before := e.vf()
	pod, other := netnstest.Pod(t), netnstest.Pod(t)
	conf := map[string]any{"cniVersion": "1.0.0", "name": "fast", "type": "sriov", "deviceID": device, "vlan": 100, "trust": "on",
		"ipam": map[string]any{"type": "static", "addresses": []any{map[string]any{"address": "10.56.9.7/24"}}}}

	result := e.must("ADD", "one", pod, conf)
	if text := fmt.Sprint(result); !strings.Contains(text, "10.56.9.7/24") || !strings.Contains(text, "net1") || !strings.Contains(text, device) {
		t.Errorf("result %v", result)
	}
	if _, seen := e.vf(); !strings.Contains(seen, "vlan 100") || !strings.Contains(seen, "trust 1") {
		t.Errorf("the PF has for the VF: %s", seen)
	}
	h := netnstest.Handle(t, pod)
	addrs, err := h.AddrList(netnstest.Link(t, h, "net1"), netlink.FAMILY_V4)
	if err != nil || len(addrs) != 1 || addrs[0].IPNet.String() != "10.56.9.7/24" {
		t.Errorf("addresses in the pod %v, error %v", addrs, err)
	}
	checked := map[string]any{"prevResult": result}
	for k, v := range conf {
		checked[k] = v
	}
	e.must("CHECK", "one", pod, checked)

	if _, err := e.call("ADD", "two", other, conf); err == nil || !strings.Contains(err.Error(), device) || !strings.Contains(err.Error(), "one") {
		t.Errorf("a VF that is in a pod: %v; want a refusal with device and owner", err)
	}
	e.must("DEL", "two", other, conf)
	e.must("CHECK", "one", pod, checked) // the other's DEL is not this one's

	e.must("DEL", "one", pod, conf)
	if _, after := e.vf(); after != before {
		t.Errorf("after DEL the VF is %s, was %s", after, before)
	}
	e.must("DEL", "one", pod, conf)
}

// TestInvariant4GCGivesTheVFBack: GC takes the VF of a pod that nobody knows any
// more, and of no other.
func TestInvariant4GCGivesTheVFBack(t *testing.T) {
	e := newExecutable(t)
	device, before := e.vf()
	pod := netnstest.Pod(t)
	conf := map[string]any{"cniVersion": "1.1.0", "name": "fast", "type": "sriov", "deviceID": device, "vlan": 100}
	with := func(key string, value any) map[string]any {
		out := map[string]any{key: value}
		for k, v := range conf {
			out[k] = v
		}
		return out
	}
	e.must("STATUS", "", nil, conf)
	result := e.must("ADD", "one", pod, conf)
	e.must("GC", "", nil, with("cni.dev/valid-attachments", []any{map[string]any{"containerID": "one", "ifname": "net1"}}))
	e.must("CHECK", "one", pod, with("prevResult", result))
	e.must("GC", "", nil, with("cni.dev/valid-attachments", []any{}))
	if _, after := e.vf(); after != before {
		t.Errorf("after GC the VF is %s, was %s", after, before)
	}
	e.must("DEL", "one", pod, conf)
	e.must("STATUS", "", nil, conf)
}

// TestInvariant9SriovExecutable: a wrong value is named, and nothing is touched.
func TestInvariant9SriovExecutable(t *testing.T) {
	e := newExecutable(t)
	device, before := e.vf()
	pod := netnstest.Pod(t)
	for field, value := range map[string]any{"vlan": 4095, "deviceID": "0000:ff:1f.7", "trust": "maybe", "min_tx_rate": 10} {
		conf := map[string]any{"cniVersion": "1.0.0", "name": "fast", "type": "sriov", "deviceID": device, field: value}
		if _, err := e.call("ADD", "one", pod, conf); err == nil || !strings.Contains(err.Error(), field) || !strings.Contains(err.Error(), fmt.Sprint(value)) {
			t.Errorf("%s %v: %v; want a refusal that names both", field, value, err)
		}
		e.must("DEL", "one", pod, conf)
		if _, after := e.vf(); after != before {
			t.Errorf("%s %v left the VF as %s, was %s", field, value, after, before)
		}
	}
}
