package cni

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"time"

	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/ipam"
)

// AddressFiles are the files in which the reference host-local keeps the addresses
// that one network has handed out on this node. Executables use them too: their
// pods may be older than Tendril, or outlive it.
type AddressFiles interface {
	// Reserve gives the owner one address of each set, as host-local does. Errors:
	// refusal.Refusal, ipam.ErrExhausted, or what the disk said; nothing is held
	// then.
	Reserve(ctx context.Context, sets []ipam.RangeSet, o ipam.Owner, asked []netip.Prefix) ([]ipam.Address, error)
	// Release frees what the owner has; none is done. known are all its addresses,
	// where they are known.
	Release(ctx context.Context, o ipam.Owner, known ...netip.Addr) error
	// Holds reports whether the owner has an address.
	Holds(o ipam.Owner) (bool, error)
}

// inFiles says whether a default network of type bridge can be served in process
// beside the plugins that attached, or will attach, other pods of it, and in which
// directory they keep its addresses. It is pure, and strict: what is left to the
// plugins works as it always did.
//
// They keep it where others come after bridge; where the addresses are not
// host-local's; where a capability is declared that the runtime fills in and no
// driver reads; where the configuration asks for what our driver does otherwise
// (iptables) or cannot see (a file of the host's), or is one that it refuses.
func inFiles(n netconf.Network) (dir string, ok bool) {
	if !n.Native() || kindOf(n) != KindBridge || len(n.Plugins) > 1 {
		return "", false
	}
	p := n.Plugins[0]
	for capability, on := range p.Capabilities {
		if on && capability != "ips" && capability != "mac" {
			return "", false
		}
	}
	conf, err := netconf.ParseBridge(p)
	if err != nil || conf.Masquerade && conf.MasqueradeBackend != "nftables" {
		return "", false
	}
	raw, kind, err := netconf.ParseIPAM(p)
	if err != nil || kind != ipam.TypeHostLocal {
		return "", false
	}
	cfg, err := ipam.Parse(raw)
	if err != nil || cfg.HostLocal.ResolvConf != "" {
		return "", false
	}
	dir = cfg.HostLocal.Dir()
	return dir, filepath.IsAbs(dir)
}

// older reports whether plugins may have attached pods of a default network that
// Tendril serves now, or serves at all.
func older(n netconf.Network) bool { return !n.Native() || kindOf(n) == KindBridge }

// primary says whether n, as this pod's default network, is served in process,
// and in whose directory of address files, "" for the journal.
func (w Wanted) primary(n netconf.Network) (dir string, own bool) {
	if !older(n) {
		return "", true
	}
	dir, ok := inFiles(n)
	return dir, ok && w.Filed && !w.runtimeAsks(n)
}

// runtimeAsks reports whether the runtime itself asks for something that plugins
// would do, and drivers do not read: in its own capability arguments or CNI_ARGS.
func (w Wanted) runtimeAsks(n netconf.Network) bool {
	for capability := range w.RuntimeConfig {
		if n.Plugins[0].Capabilities[capability] {
			return true
		}
	}
	return ofPod(w.CNIArgs) != w.CNIArgs
}

// files opens the directory of address files that an attachment's record names.
func (e *Engine) files(dir, network string) (AddressFiles, error) {
	if e.Files == nil {
		return nil, errors.New("this daemon uses no address files of the host")
	}
	return e.Files(dir, network)
}

// filed reports whether a network has address files that are there for this
// daemon. What cannot be read is refused by the plan.
func (e *Engine) filed(c Choice) bool {
	n, err := c.network()
	if err != nil {
		return false
	}
	dir, ok := inFiles(n)
	if !ok {
		return false
	}
	_, err = e.files(dir, n.Name)
	return err == nil
}

// enter takes from the files the addresses of those attachments that have theirs
// there. Their intent is recorded before, with the directory: whatever becomes of
// the daemon, the undo frees what their owner has.
func (e *Engine) enter(ctx context.Context, r Request, records []Record, plan []Planned) error {
	for i := range records {
		a := &records[i].Attachment
		if a.Filed == "" {
			continue
		}
		start := time.Now()
		if err := r.step(StepReserve, a, start, e.lease(ctx, a, plan[i])); err != nil {
			return fmt.Errorf("network %s: %w", a.Network, err)
		}
		if err := steer(records[i : i+1]); err != nil {
			return err
		}
	}
	return nil
}

func (e *Engine) lease(ctx context.Context, a *Attachment, p Planned) error {
	files, err := e.files(a.Filed, a.Config.Name)
	if err != nil {
		return err
	}
	got, err := files.Reserve(ctx, p.IPAM.HostLocal.Sets, owner(*a), p.Asked)
	if err != nil {
		return err
	}
	for _, l := range got {
		a.Addresses = append(a.Addresses, Address{Prefix: l.Prefix, Gateway: l.Gateway})
	}
	a.Routes = routes(ipam.Lease{Routes: p.IPAM.HostLocal.Routes}, a.Addresses)
	return e.complete(a, ipam.DNS{})
}

// leave frees the addresses that the attachment has in files, once its interface
// is gone. Where the daemon does not see the files any more the network's own
// plugins do it.
func (e *Engine) leave(ctx context.Context, r Request, rec Record) error {
	a := rec.Attachment
	if a.Filed == "" {
		return nil
	}
	files, err := e.files(a.Filed, a.Config.Name)
	if err == nil {
		var known []netip.Addr
		for _, ad := range a.Addresses {
			known = append(known, ad.Prefix.Addr())
		}
		return files.Release(ctx, owner(a), known...)
	}
	if r.Run == nil {
		return errNoRunner
	}
	e.Log.WarnContext(ctx, "addresses are freed by the network's plugins", "pod", a.Pod, "container", a.ContainerID, "network", a.Network, "error", err)
	return e.Delegate.Del(ctx, r.Run, a, nil)
}

// checkFiled says whether the addresses of the attachment are still its own.
func (e *Engine) checkFiled(rec Record) error {
	a := rec.Attachment
	if a.Filed == "" {
		return nil
	}
	files, err := e.files(a.Filed, a.Config.Name)
	if err != nil {
		return err
	}
	ok, err := files.Holds(owner(a))
	if err == nil && !ok {
		err = fmt.Errorf("%s has no address for it", filepath.Join(a.Filed, a.Config.Name))
	}
	return err
}

// unknown is the default network of a container that the journal does not know, if
// plugins may have attached it: the pod may be older than Tendril. Where address
// files can be seen, it holds an address in them then.
func (e *Engine) unknown(r Request, c Choice) (a Attachment, owed bool, err error) {
	n, err := c.network()
	if err != nil || !older(n) {
		return a, false, err
	}
	w := Wanted{ContainerID: r.ContainerID, IfName: r.IfName, CNIArgs: cniArgs(r), Pod: r.pod()}
	if r.Netns != nil { // else nobody knows what is at the path
		w.Netns.Path = r.NetnsPath
	}
	a = w.attachment(n, r.IfName)
	a.Network, a.Default, a.Kind = c.name(n), true, KindExec
	if dir, ok := inFiles(n); ok {
		if files, err := e.files(dir, n.Name); err == nil {
			held, err := files.Holds(owner(a))
			return a, held, err
		}
	}
	return a, true, nil
}
