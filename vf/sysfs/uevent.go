package sysfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"golang.org/x/sys/unix"
)

// uevents opens the kernel's device events (NETLINK_KOBJECT_UEVENT, group 1:
// netlink(7)) and sends a value for each one that may change the inventory,
// until ctx ends. wait returns when its goroutine has ended.
//
// Events of other senders than the kernel cannot do harm: an event carries
// nothing but the hint to look again.
func uevents(ctx context.Context, log *slog.Logger) (events <-chan struct{}, wait func(), err error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, nil, fmt.Errorf("open uevent socket: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1}); err != nil {
		_ = unix.Close(fd)
		return nil, nil, fmt.Errorf("bind uevent socket: %w", err)
	}
	return receive(ctx, fd, "device events", Concerns, log)
}

// receive reads the socket, which becomes its own, until ctx ends.
func receive(ctx context.Context, fd int, what string, concerns func([]byte) bool, log *slog.Logger) (<-chan struct{}, func(), error) {
	socket := os.NewFile(uintptr(fd), what) // non-blocking: Close ends a Read
	c, ended := make(chan struct{}, 1), make(chan struct{})
	unhook := context.AfterFunc(ctx, func() { _ = socket.Close() })
	go func() {
		defer close(ended)
		defer unhook()
		if err := listen(socket, concerns, c); err != nil && ctx.Err() == nil {
			log.Warn("events ended, the inventory is swept once a minute", "events", what, "error", err)
		}
	}()
	return c, func() { <-ended }, nil
}

// listen reads until the socket is closed. When the kernel had to drop events
// (ENOBUFS) that counts as one.
func listen(socket *os.File, concerns func([]byte) bool, c chan<- struct{}) error {
	buf := make([]byte, 16<<10)
	for {
		n, err := socket.Read(buf)
		switch {
		case errors.Is(err, unix.ENOBUFS), err == nil && concerns(buf[:n]):
			select {
			case c <- struct{}{}:
			default: // one is waiting: a scan will come
			}
		case err != nil:
			return err
		}
	}
}

// watched are the subsystems whose devices are functions, or what hangs on them
// and decides what they can be used for.
var watched = map[string]bool{
	"pci": true, "auxiliary": true, "infiniband": true, "infiniband_verbs": true, "infiniband_mad": true,
	"uio": true, "vdpa": true, "vhost-vdpa": true,
}

// Concerns reports whether a uevent can change the inventory: a PCI function, a
// subfunction, or a network, RDMA, UIO or vDPA device of one, came, went, was
// bound, renamed or moved. The events of virtual network devices and of queues, of
// which every pod start raises dozens, do not. The message is "action@path", then
// "KEY=value" strings, each ended by NUL (lib/kobject_uevent.c).
func Concerns(message []byte) bool {
	head, rest, _ := bytes.Cut(message, []byte{0})
	_, path, _ := bytes.Cut(head, []byte("@"))
	for field := range bytes.SplitSeq(rest, []byte{0}) {
		subsystem, ok := bytes.CutPrefix(field, []byte("SUBSYSTEM="))
		switch {
		case !ok:
		case string(subsystem) == "net":
			return !bytes.HasPrefix(path, []byte("/devices/virtual/"))
		default:
			return watched[string(subsystem)]
		}
	}
	return false
}
