package flight

import (
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tendril-cni/tendril/cni/netns"
)

// Netns is a network namespace at one moment, in the words of iproute2. Lists are
// cut at 64 links, 256 addresses, 256 routes and 64 rules; Cut says so.
type Netns struct {
	Links     []Link   `json:"links"`
	Addresses []string `json:"addresses"` // "net1 192.0.2.1/24"
	Routes    []string `json:"routes"`    // "default via 192.0.2.254 dev net1 table 254"
	Rules     []string `json:"rules"`     // "0: from all lookup 255"
	Cut       bool     `json:"cut,omitempty"`
	// Errors are why a list is missing.
	Errors []string `json:"errors,omitempty"`
}

// Link is one link of a Netns.
type Link struct {
	Index int    `json:"index"`
	Name  string `json:"name"`
	Kind  string `json:"kind,omitempty"` // "macvlan"; empty for a device
	MAC   string `json:"mac,omitempty"`
	MTU   int    `json:"mtu"`
	// Up says that it is administratively up, State is the operational state (RFC
	// 2863, lower case).
	Up     bool   `json:"up"`
	State  string `json:"state"`
	Parent int    `json:"parent,omitempty"` // index, of a namespace that may be another
	Master int    `json:"master,omitempty"` // index
}

// lookTime bounds one answer of the kernel.
const lookTime = 2 * time.Second

const (
	mostLinks     = 64
	mostAddresses = 256
	mostRoutes    = 256
	mostRules     = 64
)

func (n *Netns) size() int {
	if n == nil {
		return 0
	}
	const fixed, link, header = 160, 128, 16
	size := fixed + len(n.Links)*link
	for _, list := range [][]string{n.Addresses, n.Routes, n.Rules, n.Errors} {
		for _, s := range list {
			size += header + len(s)
		}
	}
	return size
}

// Look reads the namespace ns. What cannot be read is said in Errors.
func Look(ns *os.File) *Netns {
	seen := &Netns{}
	var h *netlink.Handle
	err := netns.Do(ns, func() (err error) {
		h, err = netlink.NewHandle(unix.NETLINK_ROUTE)
		return err
	})
	if err != nil {
		seen.failed("open netlink socket", err)
		return seen
	}
	defer h.Close()
	seen.failed("set up netlink socket", h.SetSocketTimeout(lookTime))
	names := seen.links(h)
	seen.addresses(h, names)
	seen.routes(h, names)
	seen.rules(h)
	return seen
}

func (n *Netns) failed(op string, err error) {
	if err != nil {
		n.Errors = append(n.Errors, fmt.Sprintf("%s: %v", op, err))
	}
}

// bound cuts a list.
func bound[T any](n *Netns, list []T, most int) []T {
	if len(list) <= most {
		return list
	}
	n.Cut = true
	return list[:most]
}

// links returns the names of all links by index.
func (n *Netns) links(h *netlink.Handle) map[int]string {
	all, err := h.LinkList()
	n.failed("read links", err)
	names := make(map[int]string, len(all))
	for _, l := range all {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	for _, l := range bound(n, all, mostLinks) {
		a := l.Attrs()
		kind := l.Type()
		if kind == "device" {
			kind = ""
		}
		n.Links = append(n.Links, Link{Index: a.Index, Name: a.Name, Kind: kind, MAC: a.HardwareAddr.String(), MTU: a.MTU,
			Up: a.RawFlags&unix.IFF_UP != 0, State: a.OperState.String(), Parent: a.ParentIndex, Master: a.MasterIndex})
	}
	return names
}

func (n *Netns) addresses(h *netlink.Handle, names map[int]string) {
	all, err := h.AddrList(nil, netlink.FAMILY_ALL)
	n.failed("read addresses", err)
	for _, a := range bound(n, all, mostAddresses) {
		n.Addresses = append(n.Addresses, names[a.LinkIndex]+" "+a.IPNet.String()+state(a.Flags))
	}
}

// state tells of duplicate address detection (linux/if_addr.h), for which an
// address may wait or which it may have lost.
func state(flags int) string {
	switch {
	case flags&unix.IFA_F_DADFAILED != 0:
		return " dadfailed"
	case flags&unix.IFA_F_TENTATIVE != 0:
		return " tentative"
	}
	return ""
}

func (n *Netns) routes(h *netlink.Handle, names map[int]string) {
	// Without a filter the library leaves out all tables but the main one; a
	// filter on the table with no table is all of them. The local table is the
	// kernel's own and says what Addresses say.
	all, err := h.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{}, netlink.RT_FILTER_TABLE)
	n.failed("read routes", err)
	all = slices.DeleteFunc(all, func(r netlink.Route) bool { return r.Table == unix.RT_TABLE_LOCAL })
	for _, r := range bound(n, all, mostRoutes) {
		n.Routes = append(n.Routes, route(r, names))
	}
}

func route(r netlink.Route, names map[int]string) string {
	out := "default"
	if r.Dst != nil {
		if ones, _ := r.Dst.Mask.Size(); ones > 0 || !r.Dst.IP.IsUnspecified() {
			out = r.Dst.String()
		}
	}
	if r.Gw != nil {
		out += " via " + r.Gw.String()
	}
	if r.LinkIndex != 0 {
		out += " dev " + names[r.LinkIndex]
	}
	out += fmt.Sprintf(" table %d", r.Table)
	if r.Src != nil {
		out += " src " + r.Src.String()
	}
	if r.Priority != 0 {
		out += fmt.Sprintf(" metric %d", r.Priority)
	}
	return out
}

func (n *Netns) rules(h *netlink.Handle) {
	all, err := h.RuleList(netlink.FAMILY_ALL)
	n.failed("read rules", err)
	for _, r := range bound(n, all, mostRules) {
		n.Rules = append(n.Rules, rule(r))
	}
}

func rule(r netlink.Rule) string {
	out := fmt.Sprintf("%d: from ", max(r.Priority, 0))
	if r.Src != nil {
		out += r.Src.String()
	} else {
		out += "all"
	}
	if r.Dst != nil {
		out += " to " + r.Dst.String()
	}
	if r.IifName != "" {
		out += " iif " + r.IifName
	}
	if r.OifName != "" {
		out += " oif " + r.OifName
	}
	if r.Mark != 0 {
		out += fmt.Sprintf(" fwmark %#x", r.Mark)
	}
	return out + fmt.Sprintf(" lookup %d", r.Table)
}
