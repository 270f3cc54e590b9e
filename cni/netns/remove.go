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
	gonePoll  = 5 * time.Millisecond
)

// Remove deletes the link that o owns, returns once it is observed gone, and
// reports whether there was one. No such link is success, and a link of someone
// else under the same name is left alone and is success too.
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
	if err := c.run(&b); err != nil {
		return false, err
	}
	return true, c.awaitGone(ctx, l)
}

// awaitGone waits until no link has l's index. The kernel answers a deletion
// after it is complete, so this is one look as a rule.
func (c *Conn) awaitGone(ctx context.Context, l Link) error {
	for deadline := time.Now().Add(goneLimit); ; {
		_, err := c.LinkByIndex(l.Index)
		switch {
		case errors.Is(err, ErrNotFound):
			return nil
		case err != nil:
			return err
		case time.Now().After(deadline):
			return fmt.Errorf("delete %s: still there after %v", l.Name, goneLimit)
		}
		if err := pause(ctx, gonePoll); err != nil {
			return fmt.Errorf("delete %s: %w", l.Name, err)
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
