package host

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/vishvananda/netlink"
	vns "github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Pod is a network namespace with a name, as container runtimes make them.
type Pod struct {
	Path string
	File *os.File
}

// Pods makes namespaces and keeps them until close: taking one down keeps the
// kernel busy for a while, which must not be in anybody's time.
type Pods struct {
	dir  string
	home *os.File
	all  []Pod
}

// NewPods keeps namespaces where a container runtime does.
func NewPods() (*Pods, error) {
	const dir = "/run/netns"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	home, err := os.Open("/proc/thread-self/ns/net")
	return &Pods{dir: dir, home: home}, err
}

// Home is the namespace of the host.
func (p *Pods) Home() *os.File { return p.home }

// Len is how many namespaces there are.
func (p *Pods) Len() int { return len(p.all) }

// Fresh makes a namespace with nothing in it.
func (p *Pods) Fresh() (Pod, error) {
	one := Pod{Path: filepath.Join(p.dir, fmt.Sprintf("cni-%d", len(p.all)))}
	if err := os.WriteFile(one.Path, nil, 0o444); err != nil {
		return one, err
	}
	done := make(chan error, 1)
	go func() { done <- p.mount(one.Path) }()
	err := <-done
	if err == nil {
		one.File, err = os.Open(one.Path)
	}
	if err != nil {
		return one, fmt.Errorf("make network namespace %s: %w", one.Path, err)
	}
	p.all = append(p.all, one)
	return one, nil
}

// mount makes a namespace on a thread of its own and gives it a name. A thread
// that cannot return stays locked, and dies with its goroutine.
func (p *Pods) mount(path string) error {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return err
	}
	err := unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, "")
	if back := unix.Setns(int(p.home.Fd()), unix.CLONE_NEWNET); back != nil {
		return errors.Join(err, back)
	}
	runtime.UnlockOSThread()
	return err
}

// Close takes all namespaces down.
func (p *Pods) Close() error {
	var errs []error
	for _, one := range p.all {
		errs = append(errs, one.File.Close(), unix.Unmount(one.Path, unix.MNT_DETACH), os.Remove(one.Path))
	}
	p.all = nil
	if p.home != nil {
		errs = append(errs, p.home.Close())
	}
	return errors.Join(errs...)
}

// Has checks that the interface is there, up and with one IPv4 address, or that
// it is absent.
func (p Pod) Has(name string, there bool) error {
	h, err := netlink.NewHandleAt(vns.NsHandle(p.File.Fd()), unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	l, err := h.LinkByName(name)
	if _, absent := errors.AsType[netlink.LinkNotFoundError](err); absent && !there {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at %s: %w", name, err)
	}
	if !there {
		return fmt.Errorf("look at %s: it is still there", name)
	}
	addrs, err := h.AddrList(l, netlink.FAMILY_V4)
	if err == nil && (len(addrs) != 1 || l.Attrs().Flags&unix.IFF_UP == 0 || l.Type() != "macvlan") {
		err = fmt.Errorf("it is a %s with flags %v and addresses %v", l.Type(), l.Attrs().Flags, addrs)
	}
	if err != nil {
		return fmt.Errorf("look at %s: %w", name, err)
	}
	return nil
}
