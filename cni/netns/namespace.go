package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/refusal"
)

// ErrGone means that a network namespace does not exist any more: its path is
// absent, is no namespace, or names another one than before.
var ErrGone = errors.New("network namespace is gone")

// host is the namespace of the daemon itself. It is opened by the first caller,
// on a thread that no visit has, and stays open for the life of the process.
var host = sync.OnceValues(func() (*os.File, error) {
	f, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, fmt.Errorf("open the host's network namespace: %w", err)
	}
	return f, nil
})

// Open opens the network namespace at path, for example /var/run/netns/NAME or
// /proc/PID/ns/net. An absent path, and one where a namespace was mounted once
// and now lies an ordinary file, is ErrGone; a namespace of another type is
// refused. The caller closes the file.
func Open(path string) (*os.File, error) {
	// O_NONBLOCK: a FIFO at that path must not hold the daemon.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ESRCH), errors.Is(err, unix.ENXIO):
		return nil, fmt.Errorf("open %s: %w", path, ErrGone)
	case err != nil:
		return nil, fmt.Errorf("open network namespace: %w", err)
	}
	if err := check(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// check refuses a file that is not a network namespace (ioctl_nsfs(2)).
func check(f *os.File) error {
	kind, err := unix.IoctlRetInt(int(f.Fd()), unix.NS_GET_NSTYPE)
	if err != nil {
		return fmt.Errorf("open %s: not a namespace: %w", f.Name(), ErrGone)
	}
	if kind != unix.CLONE_NEWNET {
		return refusal.New("network namespace", "path", f.Name(), "the path of a network namespace")
	}
	return nil
}

// Reopen opens the namespace that n identifies. A path that names another
// namespace by now is ErrGone, so that a late DEL never touches the next pod.
func Reopen(n cni.Netns) (*os.File, error) {
	if n.Path == "" {
		return nil, fmt.Errorf("open network namespace without a path: %w", ErrGone)
	}
	f, err := Open(n.Path)
	if err != nil {
		return nil, err
	}
	now, err := identity(f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if n.Inode != 0 && (now.Inode != n.Inode || now.Device != n.Device) {
		return nil, errors.Join(fmt.Errorf("open %s: it is another namespace now: %w", n.Path, ErrGone), f.Close())
	}
	return f, nil
}

// Identify says which namespace ns is, with ns.Name() as its path. It refuses
// the daemon's own: a pod on the host's network gets no attachments, and a link
// made there would be the host's.
func Identify(ns *os.File) (cni.Netns, error) {
	n, err := identity(ns)
	if err != nil {
		return cni.Netns{}, err
	}
	own, err := isHost(n)
	if err != nil {
		return cni.Netns{}, err
	}
	if own {
		return cni.Netns{}, refusal.New("network namespace", "CNI_NETNS", n.Path,
			"a network namespace of the pod's own, not the host's")
	}
	return n, nil
}

func isHost(n cni.Netns) (bool, error) {
	home, err := host()
	if err != nil {
		return false, err
	}
	h, err := identity(home)
	if err != nil {
		return false, err
	}
	return n.Device == h.Device && n.Inode == h.Inode, nil
}

// errVisiting means that code which Do runs in a namespace asked for the daemon's
// own: a socket made there would be taken for the host's by whoever has it next.
var errVisiting = errors.New("the caller's thread is in another network namespace")

// atHome returns errVisiting on a thread that is in another namespace.
func atHome() error {
	home, err := host()
	if err != nil {
		return err
	}
	own, err := identity(home)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &st); err != nil {
		return fmt.Errorf("identify the thread's network namespace: %w", err)
	}
	if uint64(st.Dev) != own.Device || st.Ino != own.Inode {
		return errVisiting
	}
	return nil
}

// identity reads device and inode of an open namespace, which together name it
// for as long as anything holds it (namespaces(7)).
func identity(ns *os.File) (cni.Netns, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(ns.Fd()), &st); err != nil {
		return cni.Netns{}, fmt.Errorf("identify network namespace %s: %w", ns.Name(), err)
	}
	runtime.KeepAlive(ns)
	return cni.Netns{Path: ns.Name(), Device: uint64(st.Dev), Inode: st.Ino}, nil
}

// Do runs f on a thread inside ns and waits for it; a nil ns is the daemon's
// own namespace, where f runs on the caller's goroutine. f must return (neither
// panic nor Goexit), must not start goroutines that rely on the namespace, and
// must not Dial the daemon's own.
// Files, sockets and /proc/sys/net entries that f opens belong to ns wherever
// they are used later.
func Do(ns *os.File, f func() error) error {
	if ns == nil {
		return f()
	}
	home, err := host()
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	// A goroutine of its own, because a thread that cannot return has to die,
	// and the caller's goroutine must survive that.
	go func() { done <- visit(home, ns, f) }()
	return <-done
}

func visit(home, ns *os.File, f func() error) error {
	runtime.LockOSThread()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter network namespace %s: %w", ns.Name(), err)
	}
	err := f()
	if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
		// Still locked: the runtime ends this thread with the goroutine.
		return errors.Join(err, fmt.Errorf("leave network namespace %s: %w", ns.Name(), back))
	}
	runtime.UnlockOSThread()
	return err
}
