package netns

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// Move takes the link with that index out of c's namespace and into ns (nil: the
// daemon's own), renamed by the same message. The kernel takes the link down,
// drops its addresses and routes, and may give it another index: look it up
// there.
//
// ErrNameTaken means that the name is taken there, and nothing was moved. It is
// asked for first, because the kernel renames after the arrival unless the old
// name is taken there (seen on Linux 6.18), and so would leave the link there
// under its old name. After another *Error, from the MAC or the MTU or a name
// taken in between, the link has moved.
func (c *Conn) Move(index int, ns *os.File, t Target) error {
	mac, err := parseMAC(t.MAC)
	if err != nil {
		return err
	}
	if err := nameFree(ns, t.Name); err != nil {
		return fmt.Errorf("move link %d: %w", index, err)
	}
	where := "the host"
	if ns != nil {
		where = ns.Name()
	} else if ns, err = host(); err != nil {
		return err
	}
	var b batch
	b.begin("move", "link "+strconv.Itoa(index)+" to "+where, unix.RTM_SETLINK, 0)
	b.info(unix.AF_UNSPEC, index, 0, 0)
	b.u32(unix.IFLA_NET_NS_FD, uint32(ns.Fd()))
	if t.Name != "" {
		b.str(unix.IFLA_IFNAME, t.Name)
	}
	b.hardware(mac, t.MTU)
	err = c.run(&b)
	runtime.KeepAlive(ns)
	return err
}

// nameFree returns ErrNameTaken if there is a link called name in ns.
func nameFree(ns *os.File, name string) error {
	if name == "" {
		return nil
	}
	c, err := Dial(ns)
	if err != nil {
		return err
	}
	_, err = c.LinkByName(name)
	switch {
	case err == nil:
		err = fmt.Errorf("name %s: %w", name, ErrNameTaken)
	case errors.Is(err, ErrNotFound):
		err = nil
	}
	return errors.Join(err, c.Close())
}
