package netns

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

const (
	goneLimit = 10 * time.Second
	// The pauses between two looks at a link that is being deleted, each twice as
	// long as the one before.
	firstLook = 200 * time.Microsecond
	lastLook  = 5 * time.Millisecond
)

// parting bounds the deletions that the kernel works on, each of which holds a
// thread until it is answered.
var parting = make(chan struct{}, 64)

// Remove deletes the link that o owns, returns once it is observed gone, and
// reports whether there was one. No such link is success, and a link of someone
// else under the same name is left alone and is success too.
//
// The link is gone, for its namespace and for the link below it, as soon as the
// kernel lets go of its lock on the network configuration. Only after that, and
// before it answers, it waits for every RCU callback to have run and frees the
// memory (netdev_run_todo in net/core/dev.c): nine tenths of the time, in which
// there is nothing left to see. Remove does not wait for that part.
func (c *Conn) Remove(ctx context.Context, o Owner) (bool, error) {
	l, err := c.Find(o)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	var b batch
	b.begin("delete", l.Name, unix.RTM_DELLINK, 0).pardon = unix.ENODEV
	b.info(unix.AF_UNSPEC, l.Index, 0, 0)
	answer, err := c.part(ctx, &b)
	if err == nil {
		err = c.awaitParted(ctx, l, answer)
	}
	return err == nil, err
}

// part sends b, which deletes, on a socket and a thread of its own, because the
// system call returns only when all is done. The answer comes through the
// channel, which has room for it; the goroutine ends with it.
func (c *Conn) part(ctx context.Context, b *batch) (<-chan error, error) {
	select {
	case parting <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("delete links: %w", ctx.Err())
	}
	own, err := Dial(c.ns)
	if err != nil {
		<-parting
		return nil, err
	}
	answer := make(chan error, 1)
	go func() {
		answer <- errors.Join(own.run(b), own.Close())
		<-parting
	}()
	return answer, nil
}

// awaitParted returns when no link has l's index, or with the error that comes
// through answer. A look waits for the kernel's lock while a deletion holds it,
// so the one after the deletion began is the last.
func (c *Conn) awaitParted(ctx context.Context, l Link, answer <-chan error) error {
	deadline := time.Now().Add(goneLimit)
	for look := firstLook; ; look = min(2*look, lastLook) {
		_, err := c.LinkByIndex(l.Index)
		switch {
		case errors.Is(err, ErrNotFound):
			return nil
		case err != nil:
			return err
		case time.Now().After(deadline):
			return fmt.Errorf("delete %s: still there after %v", l.Name, goneLimit)
		}
		select {
		case err := <-answer:
			if err != nil {
				return err
			}
			answer = nil // it was the only one
		case <-time.After(look):
		case <-ctx.Done():
			return fmt.Errorf("delete %s: %w", l.Name, ctx.Err())
		}
	}
}

// RemoveGroup deletes every link that Tendril made in the namespace, with one
// message and for the price of one deletion; use it when the whole pod goes. No
// link in the group is success.
func (c *Conn) RemoveGroup() error {
	var b batch
	b.begin("delete", "all links of the group", unix.RTM_DELLINK, 0).pardon = unix.ENODEV
	b.info(unix.AF_UNSPEC, 0, 0, 0)
	b.u32(unix.IFLA_GROUP, Group)
	return c.run(&b)
}

// Find returns the link that o owns, or ErrNotFound. It looks at the observed
// index, then at the name, then, because a pod may rename its links, at every
// link for the mark.
func (c *Conn) Find(o Owner) (Link, error) {
	if o.Index != 0 {
		if l, err := c.LinkByIndex(o.Index); err == nil && o.owns(l) {
			return l, nil
		}
	}
	if l, err := c.LinkByName(o.Name); err == nil && o.owns(l) {
		return l, nil
	}
	all, err := c.Links()
	if err != nil {
		return Link{}, err
	}
	for _, l := range all {
		if o.owns(l) {
			return l, nil
		}
	}
	return Link{}, fmt.Errorf("find %s: %w", o.Name, ErrNotFound)
}

// owns reports whether l is o's link: the right driver and
//   - o's mark, under whatever name; or
//   - o's name and the index that was observed, even if the mark was changed; or
//   - o's name in our group without any mark, which is a creation cut short.
func (o Owner) owns(l Link) bool {
	switch {
	case l.Kind != o.Kind:
		return false
	case o.Mark != "" && l.Alias == o.Mark:
		return true
	case l.Name != o.Name:
		return false
	case o.Index != 0 && l.Index == o.Index:
		return true
	}
	return l.Alias == "" && l.Group == Group
}
