package netns

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"
)

// leaving is the link group of links that are about to go. Its number differs
// from Group so that a link which stays is never in it.
const leaving = Group ^ 1

// RemoveAll deletes the links that the owners own with one message, waits until
// all are observed gone, as Remove does, and returns what it deleted: the kernel
// waits as long for one link as for many. Absent ones are done. A link without a kind (a VF, a
// physical device) is never touched, whoever owns it.
func (c *Conn) RemoveAll(ctx context.Context, owners []Owner) ([]Link, error) {
	var found []Link
	var b batch
	for _, o := range owners {
		l, err := c.Find(o)
		if errors.Is(err, ErrNotFound) || err == nil && l.Kind == "" {
			continue
		}
		if err != nil {
			return nil, err
		}
		found = append(found, l)
		b.begin("mark for deletion", l.Name, unix.RTM_SETLINK, 0).pardon = unix.ENODEV
		b.info(unix.AF_UNSPEC, l.Index, 0, 0)
		b.u32(unix.IFLA_GROUP, leaving)
	}
	if len(found) == 0 {
		return nil, nil
	}
	b.begin("delete", "links that leave", unix.RTM_DELLINK, 0).pardon = unix.ENODEV
	b.info(unix.AF_UNSPEC, 0, 0, 0)
	b.u32(unix.IFLA_GROUP, leaving)
	answer, err := c.part(ctx, &b)
	if err != nil {
		return nil, err
	}
	for _, l := range found {
		if err := c.awaitParted(ctx, l, answer); err != nil {
			return nil, err
		}
	}
	return found, nil
}
