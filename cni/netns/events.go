package netns

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// LinkEvents says when a link of the daemon's own namespace has appeared, changed
// or gone (RTMGRP_LINK, rtnetlink(7)). It says that and no more: several events
// may be one signal, so whoever gets it looks at everything. The channel is
// closed when ctx ends or the socket fails, which is reported by failed.
func LinkEvents(ctx context.Context) (changed <-chan struct{}, failed func() error, err error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, nil, fmt.Errorf("watch links: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: unix.RTMGRP_LINK}); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("watch links: %w", err), unix.Close(fd))
	}
	f := os.NewFile(uintptr(fd), "link events")
	out := make(chan struct{}, 1)
	var last error
	stop := context.AfterFunc(ctx, func() { _ = f.Close() })
	go func() {
		defer close(out)
		defer stop()
		buf := make([]byte, receiveBuffer)
		for {
			_, err := f.Read(buf)
			// ENOBUFS: there were more than the socket holds. One signal is enough.
			if err != nil && !errors.Is(err, unix.ENOBUFS) {
				if ctx.Err() == nil {
					last = fmt.Errorf("watch links: %w", errors.Join(err, f.Close()))
				}
				return
			}
			select {
			case out <- struct{}{}:
			default:
			}
		}
	}()
	return out, func() error { return last }, nil
}
