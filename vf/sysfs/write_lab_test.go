//go:build lab

package sysfs_test

import (
	"context"
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tendril-cni/tendril/cni/refusal"
	"github.com/tendril-cni/tendril/vf"
	"github.com/tendril-cni/tendril/vf/sysfs"
)

// secondNIC is the PF whose VFs these tests may make anew.
func secondNIC(t *testing.T, fs *sysfs.FS) vf.Addr {
	t.Helper()
	snap, _, err := fs.Scan()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range snap.PFs {
		if p.Netdev == "sriov1" {
			return p.Addr
		}
	}
	t.Fatal("no sriov1")
	return vf.Addr{}
}

func TestNumVFsOfTheMachine(t *testing.T) {
	fs := sysfs.New("/sys")
	pf := secondNIC(t, fs)
	ctx := t.Context()
	t.Cleanup(func() { // as the other tests of the machine expect it
		ctx := context.Background()
		if err := errors.Join(fs.SetNumVFs(ctx, pf, 0), fs.SetAutoprobe(ctx, pf, true), fs.SetNumVFs(ctx, pf, 7)); err != nil {
			t.Error(err)
		}
	})
	for _, n := range []int{0, 4} {
		if err := fs.SetNumVFs(ctx, pf, n); err != nil {
			t.Fatal(err)
		}
	}
	for n, want := range map[int]error{3: unix.EBUSY, 8: unix.ERANGE} {
		if err := fs.SetNumVFs(ctx, pf, n); !errors.Is(err, want) {
			t.Errorf("%d over 4: %v", n, err)
		}
	}
	if p, err := fs.PF(pf); err != nil || p.NumVFs != 4 {
		t.Errorf("%+v, %v", p, err)
	}
	if err := errors.Join(fs.SetNumVFs(ctx, pf, 0), fs.SetAutoprobe(ctx, pf, false), fs.SetNumVFs(ctx, pf, 7)); err != nil {
		t.Fatal(err)
	}
	a, err := fs.At(pf, 6)
	if err != nil {
		t.Fatal(err)
	}
	if v, err := fs.VF(a); err != nil || v.Driver != "" {
		t.Errorf("autoprobe off: %+v, %v", v, err)
	}
	// An override takes the driver past autoprobe, the kernel's own choice does not.
	if err := fs.Bind(ctx, a, "igbvf"); err != nil {
		t.Error(err)
	}
	if err := fs.SetAutoprobe(ctx, pf, true); err != nil {
		t.Error(err)
	}
}

func TestBindOnTheMachine(t *testing.T) {
	fs := sysfs.New("/sys")
	snap, _, err := fs.Scan()
	if err != nil {
		t.Fatal(err)
	}
	v := free(t, &snap)
	ctx := t.Context()
	var r *refusal.Refusal
	if err := fs.Bind(ctx, v.Addr, "no-such-driver"); !errors.As(err, &r) || r.Field != "driver" {
		t.Errorf("no such driver: %v", err)
	}
	if now, err := fs.VF(v.Addr); err != nil || now.Driver != "igbvf" {
		t.Errorf("after a refused bind: %+v, %v", now, err)
	}
	for _, driver := range []string{vf.VFIO, vf.VFIO, vf.Kernel, vf.Kernel} {
		if err := fs.Bind(ctx, v.Addr, driver); err != nil {
			t.Fatal(err)
		}
	}
	if now, err := fs.VF(v.Addr); err != nil || now.Driver != "igbvf" || now.IOMMUGroup != v.IOMMUGroup {
		t.Errorf("at the end: %+v, %v", now, err)
	}
}
