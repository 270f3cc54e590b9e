package sysfs

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/tendril-cni/tendril/vf"
)

// Scan reads all network functions and accelerators of the PCI bus (classes 02
// and 12), and the auxiliary devices below them. The snapshot's
// Generation is left 0. What could not be read is skipped and returned by name;
// the error is for a bus that cannot be listed at all. A machine without PCI has
// an empty inventory and no error.
//
// AltNames and DDPProfile stay empty: sysfs does not have them.
func (fs *FS) Scan() (vf.Snapshot, []Skipped, error) {
	bus, err := fs.open(pciDevices)
	if errors.Is(err, unix.ENOENT) {
		return vf.Snapshot{}, nil, nil
	}
	if err != nil {
		return vf.Snapshot{}, nil, err
	}
	names, err := bus.names(".")
	bus.close()
	if err != nil {
		return vf.Snapshot{}, nil, err
	}
	s := scan{fs: fs, indexes: map[vf.Addr]map[vf.Addr]int{}}
	for _, name := range names {
		s.function(name)
	}
	s.finish()
	return s.snap, s.skipped, nil
}

type scan struct {
	fs      *FS
	snap    vf.Snapshot
	skipped []Skipped
	// indexes of VFs by PF, then by VF.
	indexes map[vf.Addr]map[vf.Addr]int
}

// function adds one entry of the bus to the snapshot.
func (s *scan) function(name string) {
	a, err := vf.ParseAddr(name)
	if err != nil {
		s.skipped = append(s.skipped, Skipped{Path: pciDevices + "/" + name, Err: err})
		return
	}
	d, err := s.fs.function(a)
	if errors.Is(err, ErrAbsent) {
		return // unplugged since the bus was listed
	}
	if err != nil {
		s.skipped = append(s.skipped, Skipped{Path: pciDevices + "/" + name, Err: err})
		return
	}
	defer d.close()
	r := reader{dir: d}
	s.read(&r, a)
	s.skipped = append(s.skipped, r.skipped...)
}

// PCI base classes, as the attribute class begins with (PCI Code and ID
// Assignment Specification).
const (
	network     = "0x02"
	accelerator = "0x12"
)

func (s *scan) read(r *reader, a vf.Addr) {
	class, err := r.attribute("class")
	switch {
	case absent(err):
		return
	case err != nil:
		r.skip("class", err)
		return
	case !strings.HasPrefix(class, network) && !strings.HasPrefix(class, accelerator):
		return
	}
	extra := strings.HasPrefix(class, accelerator)
	pf, isVF, err := r.physfn()
	switch {
	case err != nil:
		r.skip("physfn", err) // neither offered as a VF nor as a PF
	case isVF:
		v := r.vf(a, pf)
		v.Accelerator = extra
		s.snap.VFs = append(s.snap.VFs, v)
	default:
		p := r.pf(a)
		p.Accelerator = extra
		s.snap.PFs = append(s.snap.PFs, p)
	}
}

// finish sorts and fills in what a function alone does not say.
func (s *scan) finish() {
	slices.SortFunc(s.snap.PFs, func(a, b vf.PF) int { return a.Addr.Compare(b.Addr) })
	slices.SortFunc(s.snap.VFs, func(a, b vf.VF) int { return a.Addr.Compare(b.Addr) })
	kinds := map[vf.Addr]string{}
	for _, p := range s.snap.PFs {
		kinds[p.Addr] = p.LinkType
	}
	for i := range s.snap.VFs {
		v := &s.snap.VFs[i]
		if v.LinkType == "" {
			v.LinkType = kinds[v.PF]
		}
		index, ok := s.of(v.PF)[v.Addr]
		if !ok {
			s.skipped = append(s.skipped, Skipped{Path: pciDevices + "/" + v.Addr.String(),
				Err: fmt.Errorf("PF %s has no virtfn link to it", v.PF)})
			continue
		}
		v.Index = index
	}
	s.auxiliaries()
}

func (s *scan) of(pf vf.Addr) map[vf.Addr]int {
	if m, ok := s.indexes[pf]; ok {
		return m
	}
	m, skipped := s.fs.indexes(pf)
	s.indexes[pf] = m
	s.skipped = append(s.skipped, skipped...)
	return m
}

// indexes reads the virtfn links of a PF. A PF that is gone has none.
func (fs *FS) indexes(pf vf.Addr) (map[vf.Addr]int, []Skipped) {
	d, err := fs.function(pf)
	if errors.Is(err, ErrAbsent) {
		return nil, nil
	}
	if err != nil {
		return nil, []Skipped{{Path: pciDevices + "/" + pf.String(), Err: err}}
	}
	defer d.close()
	r := reader{dir: d}
	names, err := r.names(".")
	if err != nil {
		r.skip(".", err)
	}
	m := map[vf.Addr]int{}
	for _, name := range names {
		digits, ok := strings.CutPrefix(name, "virtfn")
		if !ok {
			continue
		}
		i, err := strconv.ParseUint(digits, 10, 16)
		if err != nil {
			r.skip(name, err)
			continue
		}
		a, err := vf.ParseAddr(r.base(name))
		if err != nil {
			r.skip(name, err)
			continue
		}
		m[a] = int(i)
	}
	return m, r.skipped
}
