package macvlan

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netns"
	"github.com/tendril-cni/tendril/cni/netns/stacked"
	"github.com/tendril-cni/tendril/cni/refusal"
)

// explain turns the answers that mean something to macvlan into refusals, each
// seen on Linux 6.18, and leaves the rest to c.
func explain(err error, c stacked.Child, mode string, a cni.Attachment, p stacked.Parent) error {
	var e *netns.Error
	if !errors.As(err, &e) {
		return c.Explain(err, a, p)
	}
	switch {
	case e.Op == "create" && e.Errno == unix.EBUSY:
		return refusal.New(c.Object, "master", p.Name, busy(p)).Because(err)
	case e.Op == "up" && (e.Errno == unix.EADDRINUSE || e.Errno == unix.EBUSY):
		return refusal.New(c.Object, "mac", c.MAC, macTaken(c.MAC, p)).Because(err)
	case e.Op == "create" && e.Errno == unix.EINVAL && (mode == passthru || carriesPassthru(p)):
		return refusal.New(c.Object, "mode", mode, fmt.Sprintf("passthru only alone on a master, and no other mode beside it; %s carries: %s", p.Name, orUnseen(stacked.Users(p, kind)))).Because(err)
	}
	return c.Explain(err, a, p)
}

// busy says who takes the master's frames. A port is refused before; what else
// does it is an ipvlan, which cannot share a master with macvlan.
func busy(p stacked.Parent) string {
	const want = "a link whose frames nothing else takes (bridge, bond, team, Open vSwitch or ipvlan)"
	if users := stacked.Users(p, "ipvlan"); users != "" {
		return want + "; this one carries " + users
	}
	return want
}

// macTaken names the holder of mac on the master.
func macTaken(mac string, p stacked.Parent) string {
	const want = "an address that no other macvlan on master %s has, nor the master itself"
	text := fmt.Sprintf(want, p.Name)
	if mac == p.MAC {
		return text + "; it is the master's"
	}
	for _, l := range stacked.Children(p, kind) {
		if l.MAC == mac && l.Up() {
			return text + "; it is held by " + stacked.Names([]netns.Link{l})
		}
	}
	return text
}

// carriesPassthru reports whether a child that can be seen has its master alone.
func carriesPassthru(p stacked.Parent) bool {
	for _, l := range stacked.Children(p, kind) {
		for _, d := range l.Data {
			if d.Type == unix.IFLA_MACVLAN_MODE && string(d.Value) == string(u32(modes[passthru])) {
				return true
			}
		}
	}
	return false
}

func orUnseen(users string) string {
	if users == "" {
		return "links in namespaces that are not readable"
	}
	return users
}
