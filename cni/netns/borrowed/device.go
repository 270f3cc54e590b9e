package borrowed

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tendril-cni/tendril/cni/netns"
	"github.com/tendril-cni/tendril/cni/refusal"
)

// Device is a link of the host as it was before it was lent, as JSON in the
// journal.
type Device struct {
	Name  string `json:"name"`
	Index int    `json:"index"`
	Kind  string `json:"kind,omitempty"`
	MAC   string `json:"mac,omitempty"`
	MTU   int    `json:"mtu,omitempty"`
	Alias string `json:"alias,omitempty"`
	// AltNames are the alternative names; nil in records of versions that did not
	// note them, empty for none.
	AltNames []string `json:"altNames,omitzero"`
	Up       bool     `json:"up,omitempty"`
	// Promisc and Allmulti are the flags of netdevice(7).
	Promisc  bool `json:"promisc,omitempty"`
	Allmulti bool `json:"allmulti,omitempty"`
	// Bus and Dev are the bus device behind it ("pci", "0000:01:10.2").
	Bus string `json:"bus,omitempty"`
	Dev string `json:"dev,omitempty"`
}

// Loan says what a device is while it is lent.
type Loan struct {
	Name, Mark string
	Setup      netns.Setup
	// Index is what the device got in the pod, 0 where that is not known. Lent says
	// that it was seen there. Return alone reads them.
	Index int
	Lent  bool
}

// Note reads l for the journal. It refuses, in field of object, the loopback, the
// link of the default route and one that is lent already.
func Note(conn *netns.Conn, l netns.Link, object, field string) (Device, error) {
	switch uplink, err := conn.DefaultRouteLink(); {
	case err != nil && !errors.Is(err, netns.ErrNotFound):
		return Device{}, err
	case l.Flags&unix.IFF_LOOPBACK != 0:
		return Device{}, refusal.New(object, field, l.Name, "a link other than the loopback")
	case err == nil && uplink == l.Index:
		return Device{}, refusal.New(object, field, l.Name, "a link that the host can do without: this one carries its default route")
	}
	return Device{
		Name: l.Name, Index: l.Index, Kind: l.Kind, MAC: l.MAC, MTU: l.MTU, Alias: l.Alias, AltNames: append([]string{}, l.AltNames...), Up: l.Up(),
		Promisc: l.Flags&unix.IFF_PROMISC != 0, Allmulti: l.Flags&unix.IFF_ALLMULTI != 0,
		Bus: l.ParentBus, Dev: l.ParentDev,
	}, nil
}

// Lend marks the device, moves it into ns under the loan's name and sets it up.
// On error Return takes it back from wherever it is.
func Lend(ctx context.Context, ns *os.File, d Device, loan Loan) (netns.Link, error) {
	host, err := netns.Dial(nil)
	if err != nil {
		return netns.Link{}, err
	}
	defer host.Close()
	l, err := host.LinkByIndex(d.Index)
	if err == nil && l.Name != d.Name {
		err = netns.ErrNotFound // the index is another link's by now
	}
	if err != nil {
		return netns.Link{}, fmt.Errorf("lend %s: %w", d.Name, err)
	}
	if err := alias(nil, d.Index, loan.Mark); err != nil {
		return netns.Link{}, err
	}
	if err := host.Move(d.Index, ns, netns.Target{Name: loan.Name}); err != nil {
		return netns.Link{}, err
	}
	pod, err := netns.Dial(ns)
	if err != nil {
		return netns.Link{}, err
	}
	defer pod.Close()
	if l, err = pod.LinkByName(loan.Name); err != nil {
		return l, err
	}
	return pod.Configure(ctx, l.Index, loan.Setup)
}

// Return brings the device of a loan back to the host and to what d says, and
// reports whether there was something to do. ns is nil when the pod's namespace is
// gone. Pods may take the mark off or write another one: a device that was lent is
// known by its index there, and a physical one by its bus too.
func Return(ctx context.Context, ns *os.File, d Device, loan Loan) (bool, error) {
	host, err := netns.Dial(nil)
	if err != nil {
		return false, err
	}
	defer host.Close()
	if ns != nil {
		if err := fetch(ns, d, loan); err != nil {
			return false, err
		}
	}
	l, err := await(ctx, host, d, loan, ns == nil)
	if errors.Is(err, errNothing) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, restore(l, d)
}

// errNothing means that there is no marked link and that none is on its way.
var errNothing = errors.New("nothing to return")

// await returns the marked link on the host. After the end of the pod's
// namespace the kernel brings physical devices back in its own time.
func await(ctx context.Context, host *netns.Conn, d Device, loan Loan, torn bool) (netns.Link, error) {
	for deadline := time.Now().Add(arrival); ; time.Sleep(pause) {
		// One look answers both whether it is there and whether it is still to come:
		// it may arrive between two.
		links, err := host.Links()
		if err != nil {
			return netns.Link{}, err
		}
		l, err := find(links, d, loan.Mark, func(l netns.Link) bool {
			return loan.Lent && d.behind(l) && l.Alias != d.Alias
		})
		switch {
		case err == nil:
			return l, nil
		case !torn || !d.expected(links):
			return l, errNothing
		case ctx.Err() != nil:
			return l, fmt.Errorf("return %s: %w", d.Name, ctx.Err())
		case time.Now().After(deadline):
			return l, fmt.Errorf("return %s: the kernel has not brought it back yet: %w", d.Name, err)
		}
	}
}

// expected reports whether the machine has a network device behind d that is none of
// the host's links.
func (d Device) expected(links []netns.Link) bool {
	if d.Bus == "" || d.Dev == "" || slices.ContainsFunc(links, d.behind) {
		return false // not a physical one, which went with the namespace; or there
	}
	// A driver without network devices has no such folder.
	_, err := os.Stat(filepath.Join("/sys/bus", d.Bus, "devices", d.Dev, "net"))
	return err == nil
}

const (
	arrival = 2 * time.Second
	pause   = 5 * time.Millisecond
)

// marked begins the mark of every attachment (netns.Mark).
const marked = "tendril "

// behind reports whether d is a physical device, and l what the kernel has of it.
func (d Device) behind(l netns.Link) bool {
	return d.Bus != "" && d.Dev != "" && l.ParentBus == d.Bus && l.ParentDev == d.Dev
}

// find returns the link with the mark among those of a namespace, or else the one
// that is known otherwise and that nobody else has marked.
func find(links []netns.Link, d Device, mark string, known func(netns.Link) bool) (netns.Link, error) {
	for _, l := range links {
		if l.Alias == mark && l.Kind == d.Kind {
			return l, nil
		}
	}
	for _, l := range links {
		if l.Kind == d.Kind && !strings.HasPrefix(l.Alias, marked) && known(l) {
			return l, nil
		}
	}
	return netns.Link{}, fmt.Errorf("find %s by its mark: %w", d.Name, netns.ErrNotFound)
}

// fetch moves the device out of ns to the host, under its old name or, if that is
// taken there, under one of its own. On arrival it has its mark, so that what is
// left to do is found again.
func fetch(ns *os.File, d Device, loan Loan) error {
	pod, err := netns.Dial(ns)
	if err != nil {
		return err
	}
	defer pod.Close()
	links, err := pod.Links()
	if err != nil {
		return err
	}
	l, err := find(links, d, loan.Mark, func(l netns.Link) bool { return loan.Lent && (d.behind(l) || l.Index == loan.Index) })
	if errors.Is(err, netns.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if l.Alias != loan.Mark {
		if err := again(ns, l.Index, loan.Mark); err != nil {
			return err
		}
	}
	if err := netns.DropAltNames(ns, l, d.AltNames); err != nil {
		return err
	}
	if err := pod.Down(l.Index); err != nil {
		return err
	}
	err = pod.Move(l.Index, nil, netns.Target{Name: d.Name})
	if errors.Is(err, netns.ErrNameTaken) {
		err = pod.Move(l.Index, nil, netns.Target{Name: spare(d)})
	}
	return err
}

// spare is a name for a device whose own is taken on the host.
func spare(d Device) string { return fmt.Sprintf("tendril%d", d.Index) }

// restore gives the link on the host what d says. The mark goes last: until then
// everything can be repeated.
func restore(l netns.Link, d Device) error {
	h, err := netns.Handle(nil)
	if err != nil {
		return err
	}
	defer h.Close()
	dev := &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: l.Index}}
	var errs []error
	step := func(needed bool, what string, do func() error) {
		if !needed {
			return
		}
		if err := do(); err != nil {
			errs = append(errs, fmt.Errorf("restore %s of %s: %w", what, d.Name, err))
		}
	}
	mac, _ := net.ParseMAC(d.MAC)
	step(l.Up() && (!d.Up || l.Name != d.Name), "down", func() error { return h.LinkSetDown(dev) })
	step(l.Name != d.Name, "name", func() error { return rename(h, dev, d) })
	step(true, "alternative names", func() error { return netns.RestoreAltNames(l.Index, d.AltNames) })
	step(len(mac) > 0 && l.MAC != d.MAC, "MAC", func() error { return h.LinkSetHardwareAddr(dev, mac) })
	step(l.MTU != d.MTU, "MTU", func() error { return h.LinkSetMTU(dev, d.MTU) })
	step(!d.Promisc && l.Flags&unix.IFF_PROMISC != 0, "promisc", func() error { return h.SetPromiscOff(dev) })
	step(!d.Allmulti && l.Flags&unix.IFF_ALLMULTI != 0, "allmulti", func() error { return h.LinkSetAllmulticastOff(dev) })
	step(d.Up, "up", func() error { return h.LinkSetUp(dev) })
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	return alias(h, l.Index, d.Alias)
}

// rename gives the device its name, or, where that is taken, leaves it what it
// has: a device under another name serves, one that never comes back does not.
func rename(h *netlink.Handle, dev netlink.Link, d Device) error {
	err := h.LinkSetName(dev, d.Name)
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}

// again marks the link in ns.
func again(ns *os.File, index int, mark string) error {
	h, err := netns.Handle(ns)
	if err != nil {
		return err
	}
	defer h.Close()
	return alias(h, index, mark)
}

// alias sets IFLA_IFALIAS; h nil opens a handle on the host.
func alias(h *netlink.Handle, index int, text string) error {
	if h == nil {
		var err error
		if h, err = netns.Handle(nil); err != nil {
			return err
		}
		defer h.Close()
	}
	if err := h.LinkSetAlias(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: index}}, text); err != nil {
		return fmt.Errorf("set alias of link %d: %w", index, err)
	}
	return nil
}
