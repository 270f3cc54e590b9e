package sysfs

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/tendril-cni/tendril/vf"
)

// FS reads one sysfs tree.
type FS struct{ root string }

// New returns the tree under root, which is /sys outside of tests. The
// directory is not looked at before it is read.
func New(root string) *FS { return &FS{root: root} }

// Root returns the directory given to New.
func (fs *FS) Root() string { return fs.root }

// Errors of the look-ups.
var (
	// ErrAbsent says that the PCI bus has no function of that address.
	ErrAbsent = errors.New("no such PCI function")
	// ErrNotVF says that the function has no physfn link: it is a PF, an ordinary
	// device, or a VF whose PF is on the other side of a hypervisor.
	ErrNotVF = errors.New("not a virtual function")
)

const pciDevices = "bus/pci/devices"

// dir is an open directory of the tree. Reading relative to it saves the walk
// through sysfs for every attribute, which is most of a scan's cost.
type dir struct {
	fd   int
	path string // below the root, for messages
}

func (fs *FS) open(path string) (dir, error) {
	fd, err := again(func() (int, error) {
		return unix.Open(filepath.Join(fs.root, path), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return dir{}, fmt.Errorf("open %s: %w", path, err)
	}
	return dir{fd: fd, path: path}, nil
}

// function opens the directory of one PCI function; ErrAbsent if there is none.
func (fs *FS) function(a vf.Addr) (dir, error) {
	d, err := fs.open(pciDevices + "/" + a.String())
	if errors.Is(err, unix.ENOENT) {
		return dir{}, fmt.Errorf("%s: %w", a, ErrAbsent)
	}
	return d, err
}

func (d dir) close() { _ = unix.Close(d.fd) }

// attribute returns the trimmed content of one attribute. Those of sysfs hold at
// most one page (Documentation/filesystems/sysfs.rst).
func (d dir) attribute(name string) (string, error) {
	fd, err := again(func() (int, error) {
		return unix.Openat(d.fd, name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return "", d.wrap("open", name, err)
	}
	var page [4096]byte
	n, err := again(func() (int, error) { return unix.Read(fd, page[:]) })
	_ = unix.Close(fd)
	if err != nil {
		return "", d.wrap("read", name, err)
	}
	return strings.TrimSpace(string(page[:n])), nil
}

// target returns the last element of a link's target: sysfs names devices,
// drivers and groups by it.
func (d dir) target(name string) (string, error) {
	var buf [1024]byte
	n, err := again(func() (int, error) { return unix.Readlinkat(d.fd, name, buf[:]) })
	if err != nil {
		return "", d.wrap("read link", name, err)
	}
	return filepath.Base(string(buf[:n])), nil
}

// names lists a directory below d ("." for d itself), sorted by nothing.
func (d dir) names(name string) ([]string, error) {
	fd, err := again(func() (int, error) {
		return unix.Openat(d.fd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, d.wrap("open", name, err)
	}
	defer func() { _ = unix.Close(fd) }()
	var names []string
	var buf [8192]byte
	for {
		n, err := again(func() (int, error) { return unix.ReadDirent(fd, buf[:]) })
		if err != nil {
			return nil, d.wrap("list", name, err)
		}
		if n <= 0 {
			return names, nil
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names)
	}
}

func (d dir) wrap(op, name string, err error) error {
	return fmt.Errorf("%s %s: %w", op, filepath.Join(d.path, name), err)
}

// again repeats a system call that a signal cut short (signal(7)).
func again(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if err != unix.EINTR {
			return n, err
		}
	}
}
