package sysfs_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/Mellanox/sriovnet"
	utilfs "github.com/Mellanox/sriovnet/pkg/utils/filesystem"

	"github.com/tendril-cni/tendril/vf"
	"github.com/tendril-cni/tendril/vf/sysfs"
	"github.com/tendril-cni/tendril/vf/vftest"
)

// rooted is sriovnet's file system with a tree in place of /sys.
type rooted struct {
	utilfs.DefaultFs
	root string
}

func (r rooted) in(name string) string {
	return filepath.Join(r.root, strings.TrimPrefix(name, "/sys"))
}

func (r rooted) Stat(name string) (os.FileInfo, error) { return os.Stat(r.in(name)) }
func (r rooted) Readlink(name string) (string, error)  { return os.Readlink(r.in(name)) }
func (r rooted) ReadFile(name string) ([]byte, error)  { return os.ReadFile(r.in(name)) }
func (r rooted) ReadDir(name string) (f []os.FileInfo, e error) {
	return utilfs.DefaultFs{}.ReadDir(r.in(name))
}

// TestSriovnetFindsTheSame: its look-ups are a second opinion on ours. They ask a
// file system that is one for the whole process, so nothing here is parallel.
func TestSriovnetFindsTheSame(t *testing.T) {
	root := vftest.Tree(t, vftest.TwoNICs()+extras)
	utilfs.Fs = rooted{root: root}
	defer func() { utilfs.Fs = utilfs.DefaultFs{} }()
	snap, _, err := sysfs.New(root).Scan()
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range snap.VFs {
		pf, err := sriovnet.GetPfPciFromVfPci(v.Addr.String())
		if err != nil || pf != v.PF.String() {
			t.Errorf("PF of %s is %s, to sriovnet %s, %v", v.Addr, v.PF, pf, err)
		}
		agreeOnNetdev(t, v)
	}
	for _, a := range snap.Aux {
		pf, err := sriovnet.GetPfPciFromAux(a.Name)
		if err != nil || vf.MustAddr(pf) != a.PF {
			t.Errorf("PF of %s is %s, to sriovnet %s, %v", a.Name, a.PF, pf, err)
		}
		// It has an error where ours has -1.
		if n, err := sriovnet.GetSfIndexByAuxDev(a.Name); n != a.Index || (err != nil) != (a.Index < 0) {
			t.Errorf("number of %s is %d, to sriovnet %d, %v", a.Name, a.Index, n, err)
		}
		if names, err := sriovnet.GetNetDevicesFromAux(a.Name); err == nil && !slices.Contains(names, a.Netdev) || err != nil && a.Netdev != "" {
			t.Errorf("device of %s is %q, to sriovnet %q, %v", a.Name, a.Netdev, names, err)
		}
	}
}

// agreeOnNetdev compares a VF's network device. sriovnet has the same error for a
// VF that is in a pod, one without a network driver, and an address without VF.
func agreeOnNetdev(t *testing.T, v vf.VF) {
	t.Helper()
	names, err := sriovnet.GetNetDevicesFromPci(v.Addr.String())
	if v.Netdev != "" && !slices.Contains(names, v.Netdev) || v.Netdev == "" && len(names) > 0 {
		t.Errorf("device of %s is %q, to sriovnet %q, %v", v.Addr, v.Netdev, names, err)
	}
}
