package sbr

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/cni/netns"
	"github.com/tendril-cni/tendril/cni/netns/stacked"
	"github.com/tendril-cni/tendril/cni/refusal"
)

// Protocol marks our rules (FRA_PROTOCOL, linux/rtnetlink.h keeps 0..15 and some
// others for itself and for routing daemons).
const Protocol = 116

// firstTable is where the search for free tables starts, as in the reference.
const firstTable = 100

// Modifier applies sbr. Its records are those of the interface, with the plugin
// sbr as the first of Config.Plugins.
type Modifier struct{ log *slog.Logger }

// New returns a Modifier that logs what it changes.
func New(log *slog.Logger) *Modifier { return &Modifier{log: log} }

// Prior checks the configuration. There is nothing to note: Detach goes by the
// addresses.
func (m *Modifier) Prior(ctx context.Context, _ *os.File, a cni.Attachment) (json.RawMessage, error) {
	if _, err := parse(a); err != nil {
		return nil, err
	}
	return nil, ctx.Err()
}

// Attach adds the rules and, without a configured table, moves the interface's
// routes from the main table to those of its addresses.
func (m *Modifier) Attach(ctx context.Context, ns *os.File, r cni.Record) (cni.Link, error) {
	a := r.Attachment
	conf, err := parse(a)
	if err != nil {
		return cni.Link{}, err
	}
	if len(a.Addresses) == 0 {
		return cni.Link{}, refusal.New(stacked.Object(a), "ipam", "", "an ipam, or an earlier plugin, that gives the interface addresses: sbr routes by them")
	}
	if ns == nil {
		return cni.Link{}, fmt.Errorf("route by source on %s: %w", a.IfName, netns.ErrGone)
	}
	if err := ctx.Err(); err != nil {
		return cni.Link{}, err
	}
	h, err := netns.Handle(ns)
	if err != nil {
		return cni.Link{}, err
	}
	defer h.Close()
	l, err := h.LinkByName(a.IfName)
	if err != nil {
		return cni.Link{}, fmt.Errorf("route by source on %s: %w", a.IfName, err)
	}
	if conf.Table != nil {
		err = ruleEach(h, a.Addresses, *conf.Table)
	} else {
		err = divide(h, l, a.Addresses, conf)
	}
	if err != nil {
		return cni.Link{}, err
	}
	m.log.InfoContext(ctx, "source based routing set up", "pod", a.Pod.String(), "container", a.ContainerID, "ifname", a.IfName, "network", a.Network)
	return r.Link, nil
}

// Detach deletes the rules of the attachment's addresses. The routes go with the
// interface.
func (m *Modifier) Detach(_ context.Context, ns *os.File, r cni.Record) error {
	a := r.Attachment
	if ns == nil || len(a.Addresses) == 0 {
		return nil
	}
	h, err := netns.Handle(ns)
	if err != nil {
		return err
	}
	defer h.Close()
	return clear(h, a)
}

// Check says which rule is missing.
func (m *Modifier) Check(_ context.Context, ns *os.File, r cni.Record) error {
	h, err := netns.Handle(ns)
	if err != nil {
		return err
	}
	defer h.Close()
	for _, ad := range r.Attachment.Addresses {
		rules, err := rulesFrom(h, ad.Prefix.Addr())
		if err != nil {
			return err
		}
		if len(rules) == 0 {
			return fmt.Errorf("check %s: no rule from %s", r.Attachment.IfName, ad.Prefix.Addr())
		}
	}
	return nil
}

func parse(a cni.Attachment) (netconf.SourceRouting, error) {
	p, err := a.Config.First()
	if err != nil {
		return netconf.SourceRouting{}, refusal.Name(err, stacked.Object(a))
	}
	conf, err := netconf.ParseSBR(p)
	return conf, refusal.Name(err, stacked.Object(a))
}

// clear deletes our rules of the addresses. Of two interfaces with the same
// address each has its own table: one whose routes leave by another link stays.
func clear(h *netlink.Handle, a cni.Attachment) error {
	index := 0
	if l, err := h.LinkByName(a.IfName); err == nil {
		index = l.Attrs().Index
	}
	var errs []error
	for _, ad := range a.Addresses {
		rules, err := rulesFrom(h, ad.Prefix.Addr())
		errs = append(errs, err)
		for _, r := range rules {
			other, err := leavesElsewhere(h, r.Table, index)
			if err != nil || other {
				errs = append(errs, err)
				continue
			}
			if err := h.RuleDel(&r); err != nil && !errors.Is(err, unix.ENOENT) {
				errs = append(errs, fmt.Errorf("delete rule from %s: %w", ad.Prefix.Addr(), err))
			}
		}
	}
	return errors.Join(errs...)
}

// leavesElsewhere reports whether a table has routes, all through other links.
func leavesElsewhere(h *netlink.Handle, table, index int) (bool, error) {
	routes, err := routesOf(h, table)
	if err != nil || index == 0 {
		return false, err
	}
	for _, r := range routes {
		if through(r, index) {
			return false, nil
		}
	}
	return len(routes) > 0, nil
}

// rulesFrom returns our rules with the source a.
func rulesFrom(h *netlink.Handle, a netip.Addr) ([]netlink.Rule, error) {
	all, err := h.RuleList(family(a))
	if err != nil {
		return nil, fmt.Errorf("read rules: %w", err)
	}
	var out []netlink.Rule
	for _, r := range all {
		if r.Protocol != Protocol || r.Src == nil {
			continue
		}
		ip, _ := netip.AddrFromSlice(r.Src.IP)
		if ones, bits := r.Src.Mask.Size(); ip.Unmap() == a && ones == bits {
			out = append(out, r)
		}
	}
	return out, nil
}

func family(a netip.Addr) int {
	if a.Is4() {
		return netlink.FAMILY_V4
	}
	return netlink.FAMILY_V6
}
