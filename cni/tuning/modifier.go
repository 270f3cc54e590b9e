package tuning

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/cni/netns"
	"github.com/tendril-cni/tendril/cni/netns/stacked"
	"github.com/tendril-cni/tendril/cni/refusal"
)

// Modifier applies tuning. Its records are those of the interface, with the
// plugin tuning as the first of Config.Plugins and its own note in Prior.
type Modifier struct {
	allowlist string
	log       *slog.Logger
}

// DefaultAllowlist is where the reference looks for the kernel parameters that
// an administrator allows.
const DefaultAllowlist = "/etc/cni/tuning/allowlist.conf"

// New returns a Modifier that logs what it changes. allowlist is a file with one
// regular expression a line, see DefaultAllowlist; an absent one allows all.
func New(allowlist string, log *slog.Logger) *Modifier {
	return &Modifier{allowlist: allowlist, log: log}
}

// note is what was there before. Link is nil if there was no interface.
type note struct {
	Link    *link             `json:"link,omitempty"`
	Sysctls map[string]string `json:"sysctls,omitempty"`
}

type link struct {
	Index    int    `json:"index"`
	MAC      string `json:"mac,omitempty"`
	MTU      int    `json:"mtu"`
	TxQLen   int    `json:"txQLen"`
	Promisc  bool   `json:"promisc,omitempty"`
	Allmulti bool   `json:"allmulti,omitempty"`
}

// Prior reads what Attach will change, in ns: the interface, if it is there
// already, and the kernel parameters that are. It refuses what the administrator
// does not allow.
func (m *Modifier) Prior(ctx context.Context, ns *os.File, a cni.Attachment) (json.RawMessage, error) {
	conf, err := m.parse(a)
	if err != nil {
		return nil, err
	}
	if ns == nil {
		return nil, fmt.Errorf("read what tuning changes on %s: %w", a.IfName, netns.ErrGone)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	n := note{Sysctls: map[string]string{}}
	if n.Link, err = read(ns, a.IfName); err != nil {
		return nil, err
	}
	err = netns.Do(ns, func() error {
		for _, s := range conf.Sysctls {
			value, err := get(path(s.Key, a.IfName))
			if errors.Is(err, os.ErrNotExist) {
				continue // it comes with the interface, or not at all
			}
			if err != nil {
				return err
			}
			n.Sysctls[path(s.Key, a.IfName)] = value
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return json.Marshal(n)
}

// Attach applies the configuration and returns the interface as it is then.
func (m *Modifier) Attach(ctx context.Context, ns *os.File, r cni.Record) (cni.Link, error) {
	a := r.Attachment
	conf, err := m.parse(a)
	if err != nil {
		return cni.Link{}, err
	}
	if ns == nil {
		return cni.Link{}, fmt.Errorf("tune %s: %w", a.IfName, netns.ErrGone)
	}
	if err := ctx.Err(); err != nil {
		return cni.Link{}, err
	}
	if err := set(ns, sysctls(conf, a.IfName)); err != nil {
		return cni.Link{}, refusal.Name(err, stacked.Object(a))
	}
	if err := apply(ns, a.IfName, conf, stacked.Object(a)); err != nil {
		return cni.Link{}, err
	}
	conn, err := netns.Dial(ns)
	if err != nil {
		return cni.Link{}, err
	}
	defer conn.Close()
	l, err := conn.LinkByName(a.IfName)
	if err != nil {
		return cni.Link{}, err
	}
	m.log.InfoContext(ctx, "interface tuned", "pod", a.Pod.String(), "container", a.ContainerID, "ifname", a.IfName, "network", a.Network)
	return cni.Link{Name: l.Name, Index: l.Index, MAC: l.MAC, MTU: l.MTU, PCI: r.Link.PCI}, nil
}

// Detach gives back what Prior noted. ns nil is a pod that is gone, and with it
// all that tuning changes.
func (m *Modifier) Detach(_ context.Context, ns *os.File, r cni.Record) error {
	if ns == nil || len(r.Prior) == 0 {
		return nil
	}
	var n note
	if err := json.Unmarshal(r.Prior, &n); err != nil {
		return fmt.Errorf("read note of %s: %w", r.Attachment.IfName, err)
	}
	var back []netconf.Sysctl
	for path, value := range n.Sysctls {
		back = append(back, netconf.Sysctl{Key: path, Value: value})
	}
	return errors.Join(unset(ns, back), restore(ns, n.Link))
}

// Check says what differs from the configuration.
func (m *Modifier) Check(_ context.Context, ns *os.File, r cni.Record) error {
	a := r.Attachment
	conf, err := m.parse(a)
	if err != nil {
		return err
	}
	l, err := read(ns, a.IfName)
	switch {
	case err != nil:
		return err
	case l == nil:
		return fmt.Errorf("check %s: %w", a.IfName, netns.ErrNotFound)
	case conf.MAC != "" && conf.MAC != l.MAC:
		return differs(a, "mac", conf.MAC, l.MAC)
	case conf.MTU != 0 && conf.MTU != l.MTU:
		return differs(a, "mtu", conf.MTU, l.MTU)
	case conf.Promisc != l.Promisc:
		return differs(a, "promisc", conf.Promisc, l.Promisc)
	case conf.Allmulti != nil && *conf.Allmulti != l.Allmulti:
		return differs(a, "allmulti", *conf.Allmulti, l.Allmulti)
	case conf.TxQLen != nil && *conf.TxQLen != l.TxQLen:
		return differs(a, "txQLen", *conf.TxQLen, l.TxQLen)
	}
	return netns.Do(ns, func() error {
		for _, s := range sysctls(conf, a.IfName) {
			if now, err := get(s.Key); err != nil || !slices.Equal(strings.Fields(now), strings.Fields(s.Value)) {
				return errors.Join(differs(a, s.Key, s.Value, now), err)
			}
		}
		return nil
	})
}

func differs(a cni.Attachment, what string, want, got any) error {
	return fmt.Errorf("check %s: %s is %v, configured is %v", a.IfName, what, got, want)
}

func (m *Modifier) parse(a cni.Attachment) (netconf.Tuning, error) {
	p, err := a.Config.First()
	if err != nil {
		return netconf.Tuning{}, refusal.Name(err, stacked.Object(a))
	}
	conf, err := netconf.ParseTuning(p)
	if err == nil {
		err = m.allowed(conf.Sysctls)
	}
	return conf, refusal.Name(err, stacked.Object(a))
}

// read returns the interface in ns, nil if there is none.
func read(ns *os.File, name string) (*link, error) {
	h, err := netns.Handle(ns)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	l, err := h.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	at := l.Attrs()
	return &link{
		Index: at.Index, MAC: at.HardwareAddr.String(), MTU: at.MTU, TxQLen: at.TxQLen,
		Promisc: at.Promisc != 0, Allmulti: at.RawFlags&unix.IFF_ALLMULTI != 0,
	}, nil
}
