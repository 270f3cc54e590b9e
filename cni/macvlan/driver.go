package macvlan

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"log/slog"
	"net"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/cni/netns"
	"github.com/tendril-cni/tendril/cni/netns/stacked"
	"github.com/tendril-cni/tendril/cni/refusal"
)

const kind = "macvlan"

// passthru is the mode in which the one child is the master's alter ego.
const passthru = "passthru"

// modes are the values of IFLA_MACVLAN_MODE (linux/if_link.h).
var modes = map[string]uint32{"private": 1, "vepa": 2, "bridge": 4, passthru: 8}

// Driver is the cni.Driver of macvlan.
type Driver struct{ log *slog.Logger }

// New returns a Driver that logs what it changes.
func New(log *slog.Logger) *Driver { return &Driver{log: log} }

// Prior finds the master and refuses what it cannot carry. See cni.Driver.
func (d *Driver) Prior(ctx context.Context, a cni.Attachment) (json.RawMessage, error) {
	c, conf, err := child(a)
	if err != nil {
		return nil, err
	}
	p, err := c.Prior(ctx)
	if err != nil {
		return nil, err
	}
	if err := checkMAC(c, conf.Mode, p); err != nil {
		return nil, err
	}
	return p.Record()
}

// Attach makes the link in ns. See cni.Driver.
func (d *Driver) Attach(ctx context.Context, ns *os.File, r cni.Record) (cni.Link, error) {
	c, conf, err := child(r.Attachment)
	if err != nil {
		return cni.Link{}, err
	}
	l, p, err := c.Attach(ctx, ns, r)
	if err != nil {
		return cni.Link{}, explain(err, c, conf.Mode, r.Attachment, p)
	}
	a := r.Attachment
	d.log.InfoContext(ctx, "macvlan made", "pod", a.Pod.String(), "container", a.ContainerID, "ifname", l.Name, "network", a.Network, "master", p.Name)
	return l, nil
}

// Detach removes the link from ns. See cni.Driver.
func (d *Driver) Detach(ctx context.Context, ns *os.File, r cni.Record) error {
	return stacked.Detach(ctx, ns, r, kind, d.log)
}

// child reads the attachment's configuration.
func child(a cni.Attachment) (stacked.Child, netconf.Macvlan, error) {
	object := stacked.Object(a)
	p, err := a.Config.First()
	if err != nil {
		return stacked.Child{}, netconf.Macvlan{}, refusal.Name(err, object)
	}
	conf, err := netconf.ParseMacvlan(p)
	if err != nil {
		return stacked.Child{}, conf, refusal.Name(err, object)
	}
	data := []netns.Attr{{Type: unix.IFLA_MACVLAN_MODE, Value: u32(modes[conf.Mode])}}
	if conf.BcQueueLen != 0 {
		data = append(data, netns.Attr{Type: unix.IFLA_MACVLAN_BC_QUEUE_LEN, Value: u32(conf.BcQueueLen)})
	}
	mac := strings.ToLower(conf.MAC)
	if a.MAC != "" {
		mac = strings.ToLower(a.MAC)
	}
	return stacked.Child{
		Object: object, Kind: kind, Master: conf.Master, InPod: conf.LinkInContainer,
		MTU: conf.MTU, MAC: mac, Data: data, Routes: a.Routes,
	}, conf, nil
}

// checkMAC refuses hardware addresses that the kernel would refuse, and the one
// that it would replace without a word: a passthru child takes its master's.
func checkMAC(c stacked.Child, mode string, p stacked.Parent) error {
	if c.MAC == "" {
		return nil
	}
	mac, err := net.ParseMAC(c.MAC)
	switch {
	case err != nil || len(mac) != 6 || mac[0]&1 != 0 || mac.String() == "00:00:00:00:00:00":
		return refusal.New(c.Object, "mac", c.MAC, "an Ethernet address of 6 bytes, unicast and not zero")
	case mode == passthru && p.MAC != c.MAC:
		return refusal.New(c.Object, "mac", c.MAC, "none in mode passthru, where the interface has the master's address")
	}
	return nil
}

func u32(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }
