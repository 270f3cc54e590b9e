package sysfs

import (
	"fmt"

	"github.com/tendril-cni/tendril/vf"
)

// VF reads one VF, now. ErrAbsent: there is no function at a. ErrNotVF: it is
// not a VF. Attributes that cannot be read have the values that Scan gives them;
// a VF whose PF does not list it has Index -1, and that a PF's list cannot be read
// is an error: a VF that is there must not look as if it were gone.
func (fs *FS) VF(a vf.Addr) (vf.VF, error) {
	d, err := fs.function(a)
	if err != nil {
		return vf.VF{}, err
	}
	defer d.close()
	r := reader{dir: d}
	pf, isVF, err := r.physfn()
	if err != nil {
		return vf.VF{}, fmt.Errorf("read PF of %s: %w", a, err)
	}
	if !isVF {
		return vf.VF{}, fmt.Errorf("%s: %w", a, ErrNotVF)
	}
	v := r.vf(a, pf)
	indexes, skipped := fs.indexes(pf)
	if i, ok := indexes[a]; ok {
		v.Index = i
	} else if len(skipped) > 0 {
		return vf.VF{}, fmt.Errorf("read number of VF %s: %w", a, skipped[0])
	}
	return v, nil
}

// PF reads one PF, or any other function that is no VF, now. ErrAbsent: there is
// no function at a.
func (fs *FS) PF(a vf.Addr) (vf.PF, error) {
	d, err := fs.function(a)
	if err != nil {
		return vf.PF{}, err
	}
	defer d.close()
	r := reader{dir: d}
	return r.pf(a), nil
}

// Netdevs returns the names of the network devices of the function at a that are
// in this mount's network namespace, sorted; none while a VF is in a pod.
// ErrAbsent: there is no function at a.
func (fs *FS) Netdevs(a vf.Addr) ([]string, error) {
	d, err := fs.function(a)
	if err != nil {
		return nil, err
	}
	defer d.close()
	r := reader{dir: d}
	names := r.netdevs()
	if len(r.skipped) > 0 {
		return nil, r.skipped[0]
	}
	return names, nil
}

// At returns the address of VF number index of the PF at pf. ErrAbsent: there is
// no such VF.
func (fs *FS) At(pf vf.Addr, index int) (vf.Addr, error) {
	d, err := fs.function(pf)
	if err != nil {
		return vf.Addr{}, err
	}
	defer d.close()
	name, err := d.target(fmt.Sprintf("virtfn%d", index))
	if absent(err) {
		return vf.Addr{}, fmt.Errorf("VF %d of %s: %w", index, pf, ErrAbsent)
	}
	if err != nil {
		return vf.Addr{}, err
	}
	return vf.ParseAddr(name)
}
