package main

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

// pod is a network namespace with a name, as container runtimes make them.
type pod struct {
	path string
	file *os.File
}

// pods makes namespaces and keeps them until close: taking one down keeps the
// kernel busy for a while, which must not be in anybody's time.
type pods struct {
	dir  string
	home *os.File
	all  []pod
}

func newPods() (pods, error) {
	const dir = "/run/netns"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return pods{}, err
	}
	home, err := os.Open("/proc/thread-self/ns/net")
	return pods{dir: dir, home: home}, err
}

// fresh makes a namespace with nothing in it.
func (p *pods) fresh() (pod, error) {
	one := pod{path: filepath.Join(p.dir, fmt.Sprintf("cni-%d", len(p.all)))}
	if err := os.WriteFile(one.path, nil, 0o444); err != nil {
		return one, err
	}
	done := make(chan error, 1)
	go func() { done <- p.mount(one.path) }()
	err := <-done
	if err == nil {
		one.file, err = os.Open(one.path)
	}
	if err != nil {
		return one, fmt.Errorf("make network namespace %s: %w", one.path, err)
	}
	p.all = append(p.all, one)
	return one, nil
}

// mount makes a namespace on a thread of its own and gives it a name. A thread
// that cannot return stays locked, and dies with its goroutine.
func (p *pods) mount(path string) error {
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

func (p *pods) close() error {
	var errs []error
	for _, one := range p.all {
		errs = append(errs, one.file.Close(), unix.Unmount(one.path, unix.MNT_DETACH), os.Remove(one.path))
	}
	p.all = nil
	if p.home != nil {
		errs = append(errs, p.home.Close())
	}
	return errors.Join(errs...)
}

// has checks that the interface is there, up and with one IPv4 address, or that
// it is absent.
func (p pod) has(name string, there bool) error {
	h, err := netlink.NewHandleAt(vns.NsHandle(p.file.Fd()), unix.NETLINK_ROUTE)
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
