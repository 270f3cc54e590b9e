package provision

import (
	"context"
	"fmt"
	"time"

	"github.com/tendril-cni/tendril/vf"
	"github.com/tendril-cni/tendril/vf/link"
	"github.com/tendril-cni/tendril/vf/sysfs"
)

// Linux is the kernel of this machine: /sys and rtnetlink. It must work in the
// host's network namespace, and be allowed to write to /sys.
type Linux struct{ FS *sysfs.FS }

var _ Kernel = Linux{}

// Claims implements Kernel.
func (l Linux) Claims(snap *vf.Snapshot) (map[vf.Addr]string, error) {
	byName, err := link.HostClaims()
	if err != nil {
		return nil, err
	}
	out := map[vf.Addr]string{}
	for _, p := range snap.PFs {
		if c := byName.Of(p); c != "" {
			out[p.Addr] = c
		}
	}
	for _, v := range snap.VFs {
		if c := byName[v.Netdev]; c != "" && v.Netdev != "" {
			out[v.Addr] = v.Netdev + " " + c
		}
	}
	return out, nil
}

// Do implements Kernel.
func (l Linux) Do(ctx context.Context, s vf.Step) error {
	switch s.Op {
	case vf.Up:
		return link.SetUp(s.Name)
	case vf.RaiseMTU:
		return link.SetMTU(s.Name, s.Value)
	case vf.Autoprobe:
		return l.FS.SetAutoprobe(ctx, s.PF, s.Value != 0)
	case vf.Remove:
		return l.remove(ctx, s)
	case vf.Create:
		return l.FS.SetNumVFs(ctx, s.PF, s.Value)
	}
	a, err := l.FS.At(s.PF, s.Index)
	if err != nil {
		return err
	}
	switch s.Op {
	case vf.Bind:
		return l.FS.Bind(ctx, a, s.Driver)
	case vf.SetMTU:
		return l.setMTU(ctx, a, s.Value)
	}
	return fmt.Errorf("step %q is not known", s.Op)
}

// remove makes sure that the VFs are those that the plan was about.
func (l Linux) remove(ctx context.Context, s vf.Step) error {
	now, err := l.FS.PF(s.PF)
	if err != nil {
		return err
	}
	if now.NumVFs != s.Value {
		return fmt.Errorf("there are %d VFs by now, and were %d when this was planned", now.NumVFs, s.Value)
	}
	return l.FS.SetNumVFs(ctx, s.PF, 0)
}

// How long a driver may take from its probe to its network device.
const (
	settle = 10 * time.Second
	pause  = 50 * time.Millisecond
)

func (l Linux) setMTU(ctx context.Context, a vf.Addr, mtu int) error {
	ctx, cancel := context.WithTimeout(ctx, settle)
	defer cancel()
	for {
		names, err := l.FS.Netdevs(a)
		if err != nil {
			return err
		}
		if len(names) > 0 {
			return link.SetMTU(names[0], mtu)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the network device of %s: %w", a, ctx.Err())
		case <-time.After(pause):
		}
	}
}
