package vrf

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/cni/netns"
	"github.com/tendril-cni/tendril/cni/netns/stacked"
	"github.com/tendril-cni/tendril/cni/refusal"
)

// aliasPrefix begins the alias of every VRF made here.
const aliasPrefix = "tendril vrf "

// Modifier applies vrf. Its records are those of the interface, with the plugin
// vrf as the first of Config.Plugins.
type Modifier struct{ log *slog.Logger }

// New returns a Modifier that logs what it changes.
func New(log *slog.Logger) *Modifier { return &Modifier{log: log} }

// Prior refuses a VRF name that another kind of link has in ns, and a table that
// differs from the VRF's.
func (m *Modifier) Prior(ctx context.Context, ns *os.File, a cni.Attachment) (json.RawMessage, error) {
	conf, err := parse(a)
	if err != nil {
		return nil, err
	}
	if ns == nil {
		return nil, fmt.Errorf("read VRF %s: %w", conf.Name, netns.ErrGone)
	}
	h, err := netns.Handle(ns)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	if _, err := find(h, conf, stacked.Object(a)); err != nil {
		return nil, err
	}
	return nil, ctx.Err()
}

// Attach makes the VRF where it is missing and the interface its member.
func (m *Modifier) Attach(ctx context.Context, ns *os.File, r cni.Record) (cni.Link, error) {
	a := r.Attachment
	conf, err := parse(a)
	if err != nil {
		return cni.Link{}, err
	}
	if ns == nil {
		return cni.Link{}, fmt.Errorf("join VRF %s: %w", conf.Name, netns.ErrGone)
	}
	if err := ctx.Err(); err != nil {
		return cni.Link{}, err
	}
	h, err := netns.Handle(ns)
	if err != nil {
		return cni.Link{}, err
	}
	defer h.Close()
	v, err := ensure(h, conf, stacked.Object(a))
	if err != nil {
		return cni.Link{}, err
	}
	if err := join(h, v, a); err != nil {
		return cni.Link{}, err
	}
	m.log.InfoContext(ctx, "interface joined VRF", "pod", a.Pod.String(), "container", a.ContainerID, "ifname", a.IfName, "network", a.Network, "vrf", conf.Name, "table", v.Table)
	return r.Link, nil
}

// Detach takes the interface out of the VRF and removes a VRF of ours that has
// no members left.
func (m *Modifier) Detach(ctx context.Context, ns *os.File, r cni.Record) error {
	conf, err := parse(r.Attachment)
	if err != nil || ns == nil {
		return err
	}
	h, err := netns.Handle(ns)
	if err != nil {
		return err
	}
	defer h.Close()
	l, err := h.LinkByName(conf.Name)
	v, ok := l.(*netlink.Vrf)
	switch {
	case errors.As(err, &netlink.LinkNotFoundError{}), err == nil && !ok:
		return nil
	case err != nil:
		return fmt.Errorf("read VRF %s: %w", conf.Name, err)
	}
	links, err := h.LinkList()
	if err != nil {
		return fmt.Errorf("read members of VRF %s: %w", conf.Name, err)
	}
	others := 0
	for _, l := range links {
		switch {
		case l.Attrs().MasterIndex != v.Index:
		case l.Attrs().Name != r.Attachment.IfName:
			others++
		default:
			if err := h.LinkSetNoMaster(l); err != nil && !errors.Is(err, unix.ENODEV) {
				return fmt.Errorf("take %s out of VRF %s: %w", l.Attrs().Name, conf.Name, err)
			}
		}
	}
	if others > 0 || v.Alias != "" && !strings.HasPrefix(v.Alias, aliasPrefix) || v.Alias == "" && v.Group != netns.Group {
		return nil
	}
	if err := h.LinkDel(v); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("delete VRF %s: %w", conf.Name, err)
	}
	m.log.InfoContext(ctx, "VRF removed", "pod", r.Attachment.Pod.String(), "container", r.Attachment.ContainerID, "vrf", conf.Name)
	return nil
}

// Check says whether the interface is a member.
func (m *Modifier) Check(_ context.Context, ns *os.File, r cni.Record) error {
	conf, err := parse(r.Attachment)
	if err != nil {
		return err
	}
	h, err := netns.Handle(ns)
	if err != nil {
		return err
	}
	defer h.Close()
	v, err := find(h, conf, stacked.Object(r.Attachment))
	if err != nil || v == nil {
		return errors.Join(err, fmt.Errorf("check %s: there is no VRF %s", r.Attachment.IfName, conf.Name))
	}
	l, err := h.LinkByName(r.Attachment.IfName)
	if err != nil {
		return fmt.Errorf("check %s: %w", r.Attachment.IfName, err)
	}
	if l.Attrs().MasterIndex != v.Index {
		return fmt.Errorf("check %s: it is no member of VRF %s", r.Attachment.IfName, conf.Name)
	}
	return nil
}

func parse(a cni.Attachment) (netconf.VRF, error) {
	p, err := a.Config.First()
	if err != nil {
		return netconf.VRF{}, refusal.Name(err, stacked.Object(a))
	}
	conf, err := netconf.ParseVRF(p)
	return conf, refusal.Name(err, stacked.Object(a))
}
