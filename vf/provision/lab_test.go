//go:build lab

package provision_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/tendril-cni/tendril/vf"
	"github.com/tendril-cni/tendril/vf/provision"
	"github.com/tendril-cni/tendril/vf/sysfs"
)

// childMark makes the test binary a process that provisions, and may be killed;
// its value is the path of the store.
const childMark = "TENDRIL_TEST_PROVISION_CHILD"

const labPF = "sriov1"

var sys = sysfs.New("/sys")

func TestMain(m *testing.M) {
	if path := os.Getenv(childMark); path != "" {
		child(path)
	}
	os.Exit(m.Run())
}

// file is a Store in one file, replaced as a whole.
type file struct {
	mu   sync.Mutex // serialises changes
	path string
}

func (f *file) All() (map[string][]byte, error) {
	out := map[string][]byte{}
	data, err := os.ReadFile(f.path)
	if os.IsNotExist(err) {
		return out, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &out)
	}
	return out, err
}

func (f *file) change(edit func(map[string][]byte)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	all, err := f.All()
	if err != nil {
		return err
	}
	edit(all)
	data, err := json.Marshal(all)
	if err == nil {
		err = os.WriteFile(f.path+".new", data, 0o600)
	}
	if err == nil {
		err = os.Rename(f.path+".new", f.path)
	}
	return err
}

func (f *file) Put(k string, v []byte) error {
	return f.change(func(all map[string][]byte) { all[k] = v })
}

func (f *file) Delete(k string) error {
	return f.change(func(all map[string][]byte) { delete(all, k) })
}

// bench is the machine's second NIC with a provisioner at work on it.
type bench struct {
	*testing.T
	inv *sysfs.Inventory
	p   *provision.Provisioner
	pf  vf.Addr

	mu   sync.Mutex // guards used
	used map[int]string
}

func (b *bench) inUse(context.Context) (func(vf.Addr) string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	used := map[vf.Addr]string{}
	for i, by := range b.used {
		if a, err := sys.At(b.pf, i); err == nil {
			used[a] = by
		}
	}
	return func(a vf.Addr) string { return used[a] }, nil
}

func (b *bench) use(i int, by string) {
	b.mu.Lock()
	b.used[i] = by
	b.mu.Unlock()
	b.p.Poke()
}

// start runs inventory and provisioner until the test ends.
func start(t *testing.T, store provision.Store) *bench {
	t.Helper()
	b := &bench{T: t, pf: pfAddr(t), used: map[int]string{}, inv: sysfs.NewInventory(sys, slog.New(slog.DiscardHandler), sysfs.Options{})}
	var err error
	b.p, err = provision.New(provision.Options{
		Inventory: b.inv, Kernel: provision.Linux{FS: sys}, Store: store, InUse: b.inUse, BootID: "this",
		Log: slog.New(slog.NewTextHandler(testLog{t}, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, run := range []func(context.Context) error{b.inv.Run, b.p.Run} {
		wg.Go(func() {
			if err := run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(func() { cancel(); wg.Wait() })
	if err := b.inv.Refresh(ctx); err != nil {
		t.Fatal(err)
	}
	return b
}

type testLog struct{ t *testing.T }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

func pfAddr(t *testing.T) vf.Addr {
	t.Helper()
	target, err := os.Readlink("/sys/class/net/" + labPF + "/device")
	if err != nil {
		t.Fatal(err)
	}
	return vf.MustAddr(filepath.Base(target))
}

// hand writes an attribute of the PF as a person would.
func hand(t *testing.T, pf vf.Addr, name, value string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join("/sys/bus/pci/devices", pf.String(), name), []byte(value), 0o200); err != nil {
		t.Fatal(err)
	}
}

func (b *bench) until(what string, ok func(vf.State) bool) vf.State {
	b.Helper()
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		st := b.p.State()
		if st.Snapshot.Generation > 0 && ok(st) {
			return st
		}
		if time.Now().After(end) {
			b.Fatalf("no state with %s; verdict %+v, VFs %+v", what, st.Verdict(), st.Snapshot.Of(b.pf))
		}
	}
}

func (b *bench) shows(n int, drivers ...string) func(vf.State) bool {
	return func(s vf.State) bool {
		vfs := s.Snapshot.Of(b.pf)
		if len(vfs) != n || !is(vf.Applied)(s) {
			return false
		}
		for i, d := range drivers {
			if vfs[i].Driver != d {
				return false
			}
		}
		return true
	}
}

// labPolicy wants VFs 0 and 1 on vfio-pci, and the others on the kernel's driver.
func labPolicy(numVFs, create int) vf.Policy {
	return vf.Policy{
		Name: "lab", NICs: vf.NICs{PFNames: []vf.Functions{{PF: labPF}}}, NumVFs: numVFs, CreateVFs: create, MTU: 1400,
		Groups: []vf.Group{
			{VFs: vf.Ranges{{First: 0, Last: 1}}, Driver: vf.VFIO, Resource: "x/dpdk"}, {Driver: vf.Kernel, Resource: "x/fast"},
		},
	}
}

// TestPoliciesOnRealVFs tells the life of a NIC under a policy.
func TestPoliciesOnRealVFs(t *testing.T) {
	pf := pfAddr(t)
	hand(t, pf, "sriov_numvfs", "0")
	b := start(t, &file{path: filepath.Join(t.TempDir(), "store")})
	b.p.SetPolicies([]vf.Policy{labPolicy(3, 4)})
	st := b.until("4 VFs, 3 of them served", b.shows(4, vf.VFIO, vf.VFIO, "igbvf"))
	for i, v := range st.Snapshot.Of(pf)[:3] {
		if i < 2 {
			if _, err := os.Stat("/dev/vfio/" + strconv.Itoa(v.IOMMUGroup)); err != nil {
				t.Error(err)
			}
		} else if v.Netdev == "" || v.MTU != 1400 {
			t.Errorf("VF %d: %+v", i, v)
		}
	}
	if p, _ := st.Snapshot.PF(pf); !p.Autoprobe || !st.Made[pf] {
		t.Errorf("autoprobe %v, made %v", p.Autoprobe, st.Made[pf])
	}
	if sel := b.p.Selections(); len(sel) != 2 || len(sel[0].VFs) != 2 || len(sel[1].VFs) != 1 {
		t.Errorf("selections %+v", sel)
	}

	t.Log("a larger number waits for the tenant (invariant 6)")
	b.use(2, "pod default/tenant")
	b.p.SetPolicies([]vf.Policy{labPolicy(7, 0)})
	st = b.until("waiting", is(vf.InUse))
	if m := st.Verdict().Message; !strings.Contains(m, "pod default/tenant") || len(st.Snapshot.Of(pf)) != 4 {
		t.Errorf("%q, %d VFs", m, len(st.Snapshot.Of(pf)))
	}
	b.use(2, "")
	b.until("7 VFs", b.shows(7, vf.VFIO, vf.VFIO, "igbvf", "igbvf", "igbvf", "igbvf", "igbvf"))

	t.Log("the driver is swapped by hand")
	a, err := sys.At(pf, 3)
	if err != nil {
		t.Fatal(err)
	}
	b.use(3, "pod default/tenant")
	if err := sys.Bind(t.Context(), a, vf.VFIO); err != nil {
		t.Fatal(err)
	}
	b.until("unfit", func(vf.State) bool { return strings.Contains(b.p.Unfit(a), `its driver is "vfio-pci"`) })
	b.use(3, "")
	b.until("its driver back", func(s vf.State) bool {
		return b.p.Unfit(a) == "" && b.shows(7, vf.VFIO, vf.VFIO, "igbvf", "igbvf")(s)
	})

	t.Log("sriov_numvfs is written by hand")
	b.p.SetPolicies(nil) // or 0 would be seen and mended at once
	hand(t, pf, "sriov_numvfs", "0")
	hand(t, pf, "sriov_numvfs", "5")
	b.p.SetPolicies([]vf.Policy{labPolicy(7, 0)})
	b.until("refused: 5 VFs of somebody else", func(s vf.State) bool { return is(vf.Refused)(s) && len(s.Snapshot.Of(pf)) == 5 })
	hand(t, pf, "sriov_numvfs", "0")
	b.until("made anew", b.shows(7, vf.VFIO, vf.VFIO, "igbvf"))
}

// TestChangesAreSeenAtOnce measures, and asserts nothing about, the time from a
// write to /sys, or a change of a link, to the snapshot that shows it.
func TestChangesAreSeenAtOnce(t *testing.T) {
	b := start(t, &memory{data: map[string][]byte{}})
	pf := b.pf
	seen := func(what string, ok func(*vf.Snapshot) bool, change func()) {
		t.Helper()
		began := time.Now()
		change()
		written := time.Now()
		for end := time.Now().Add(time.Minute / 2); !ok(b.inv.Snapshot()); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s: no event showed it before the sweep", what)
			}
		}
		t.Logf("%s: the kernel took %v, the snapshot %v more", what, written.Sub(began).Round(time.Millisecond), time.Since(written).Round(time.Millisecond))
	}
	count := func(n int) func(*vf.Snapshot) bool {
		return func(s *vf.Snapshot) bool { return len(s.Of(pf)) == n }
	}
	seen("sriov_numvfs 0", count(0), func() { hand(t, pf, "sriov_numvfs", "0") })
	seen("sriov_numvfs 7", count(7), func() { hand(t, pf, "sriov_numvfs", "7") })
	v := b.inv.Snapshot().Of(pf)[4]
	seen("driver vfio-pci", func(s *vf.Snapshot) bool { x, _ := s.VF(v.Addr); return x.Driver == vf.VFIO && x.Netdev == "" },
		func() { check(t, sys.Bind(t.Context(), v.Addr, vf.VFIO)) })
	seen("driver kernel", func(s *vf.Snapshot) bool { x, _ := s.VF(v.Addr); return x.Driver == "igbvf" && x.Netdev != "" },
		func() { check(t, sys.Bind(t.Context(), v.Addr, vf.Kernel)) })
	l, err := netlink.LinkByName(labPF)
	check(t, err)
	state := func(f func(vf.PF) bool) func(*vf.Snapshot) bool {
		return func(s *vf.Snapshot) bool { p, _ := s.PF(pf); return f(p) }
	}
	seen("PF down", state(func(p vf.PF) bool { return !p.AdminUp && !p.LinkUp }), func() { check(t, netlink.LinkSetDown(l)) })
	seen("PF up", state(func(p vf.PF) bool { return p.AdminUp }), func() { check(t, netlink.LinkSetUp(l)) })
	seen("PF MTU", state(func(p vf.PF) bool { return p.MTU == 2000 }), func() { check(t, netlink.LinkSetMTU(l, 2000)) })
	seen("PF MTU back", state(func(p vf.PF) bool { return p.MTU == 1500 }), func() { check(t, netlink.LinkSetMTU(l, 1500)) })
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A PF that the host uses is left alone without a word that it may be had.
func TestInvariant7UplinkIsKept(t *testing.T) {
	b := start(t, &memory{data: map[string][]byte{}})
	hand(t, b.pf, "sriov_numvfs", "0")
	l, err := netlink.LinkByName(labPF)
	check(t, err)
	a, err := netlink.ParseAddr("192.0.2.7/24")
	check(t, err)
	check(t, netlink.AddrAdd(l, a))
	t.Cleanup(func() { _ = netlink.AddrDel(l, a) })
	q := labPolicy(7, 0)
	b.p.SetPolicies([]vf.Policy{q})
	// The inventory may still have the VFs of the test before.
	st := b.until("a refusal, and no VFs", func(s vf.State) bool { return is(vf.Refused)(s) && len(s.Snapshot.Of(b.pf)) == 0 })
	if m := st.Verdict().Message; !strings.Contains(m, "192.0.2.7/24") || !strings.Contains(m, "allowPrimary") {
		t.Errorf("%q", m)
	}
	q.AllowPrimary = true
	b.p.SetPolicies([]vf.Policy{q})
	b.until("7 VFs", b.shows(7))
}

// child provisions with the store at path and says so after each step.
func child(path string) {
	inv := sysfs.NewInventory(sys, slog.New(slog.DiscardHandler), sysfs.Options{})
	p, err := provision.New(provision.Options{
		Inventory: inv, Kernel: provision.Linux{FS: sys}, Store: &file{path: path}, BootID: "this",
		InUse:   func(context.Context) (func(vf.Addr) string, error) { return func(vf.Addr) string { return "" }, nil },
		Log:     slog.New(slog.NewTextHandler(os.Stdout, nil)),
		Changed: func(s vf.State) { fmt.Println("verdict", s.Verdict().Reason) },
	})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	p.SetPolicies([]vf.Policy{labPolicy(7, 0)})
	go func() { _ = inv.Run(context.Background()) }() // ends with the process
	_ = inv.Refresh(context.Background())
	_ = p.Run(context.Background())
}

// TestInvariant3ProvisionerKilled kills a provisioner with SIGKILL around its
// steps, lets another one go on, and wants what the policy says.
func TestInvariant3ProvisionerKilled(t *testing.T) {
	pf := pfAddr(t)
	for _, kill := range []struct {
		after string
		wait  time.Duration
	}{
		{"verdict Applying", 0}, {"sriov_drivers_autoprobe to 0", 0}, {"sriov_drivers_autoprobe to 0", 300 * time.Millisecond},
		{"create 7 VFs", 0}, {"VF 0: bind", 0}, {"sriov_drivers_autoprobe to 1", 20 * time.Millisecond}, {"set MTU", 0},
	} {
		hand(t, pf, "sriov_numvfs", "0")
		hand(t, pf, "sriov_drivers_autoprobe", "1")
		path := filepath.Join(t.TempDir(), "store")
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), childMark+"="+path)
		out, err := cmd.StdoutPipe()
		check(t, err)
		check(t, cmd.Start())
		said := bufio.NewScanner(out)
		for said.Scan() && !strings.Contains(said.Text(), kill.after) {
		}
		time.Sleep(kill.wait) // the moment of the kill, not a wait for anything
		check(t, cmd.Process.Kill())
		_ = cmd.Wait()
		t.Run(fmt.Sprintf("after %s and %v", kill.after, kill.wait), func(t *testing.T) {
			b := start(t, &file{path: path})
			b.p.SetPolicies([]vf.Policy{labPolicy(7, 0)})
			st := b.until("7 VFs", b.shows(7, vf.VFIO, vf.VFIO, "igbvf", "igbvf", "igbvf", "igbvf", "igbvf"))
			if p, _ := st.Snapshot.PF(pf); !p.Autoprobe || !st.Made[pf] {
				t.Errorf("autoprobe %v, made %v", p.Autoprobe, st.Made[pf])
			}
		})
	}
}
