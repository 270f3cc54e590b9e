package node

import (
	"context"
	"fmt"
	"strings"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/inspect"
	"github.com/tendril-cni/tendril/vf"
	"github.com/tendril-cni/tendril/vf/link"
)

// vfView is what the answers about VFs are made of, at one moment.
type vfView struct {
	d *daemon
	vf.Observed
	users    map[vf.Addr]string
	records  map[string]cni.Record // by device
	pools    map[string]string     // resource by device
	assigned map[string]string     // policy by "PF index"
	missing  []string
}

func (d *daemon) viewVFs(ctx context.Context) (*vfView, error) {
	v := &vfView{d: d, users: map[vf.Addr]string{}, records: map[string]cni.Record{}, pools: map[string]string{}, assigned: map[string]string{}}
	records, err := d.records()
	if err != nil {
		return nil, err
	}
	for _, r := range records {
		if r.Attachment.Device != "" {
			v.records[r.Attachment.Device] = r
		}
	}
	for _, p := range d.offer.plugin.Pools() {
		for _, dev := range p.Devices {
			v.pools[dev.ID] = p.Name()
		}
	}
	for _, a := range d.vfs.provisioner.State().Assignments {
		v.assigned[fmt.Sprint(a.PF, a.Index)] = a.Policy
	}
	v.observe(ctx)
	return v, nil
}

// observe sees what policies are planned by. Without the kubelet the journal alone
// tells who uses what.
func (v *vfView) observe(ctx context.Context) {
	o, used, err := v.d.vfs.provisioner.Observe(ctx)
	if err != nil {
		v.missing = append(v.missing, err.Error())
		o = vf.Observed{Snapshot: v.d.inventory.Snapshot()}
		used = func(a vf.Addr) string {
			if r, ok := v.records[a.String()]; ok {
				return "pod " + r.Attachment.Pod.String()
			}
			return ""
		}
	}
	v.Observed = o
	for _, f := range v.Snapshot.VFs {
		if by := used(f.Addr); by != "" {
			v.users[f.Addr] = by
		}
	}
}

func (d *daemon) inventoried(ctx context.Context) (inspect.Inventory, error) {
	v, err := d.viewVFs(ctx)
	if err != nil {
		return inspect.Inventory{}, err
	}
	out := inspect.Inventory{PFs: []inspect.PF{}, VFs: []inspect.VF{}, Incomplete: strings.Join(v.missing, "; ")}
	for _, p := range v.Snapshot.PFs {
		if p.TotalVFs == 0 {
			continue
		}
		out.PFs = append(out.PFs, inspect.PF{Name: p.Netdev, Address: p.Addr.String(), Vendor: p.Vendor, Device: p.Device, Driver: p.Driver,
			NUMANode: p.NUMANode, TotalVFs: p.TotalVFs, NumVFs: p.NumVFs, LinkUp: p.LinkUp, Claim: v.Claims[p.Addr]})
	}
	for _, f := range v.Snapshot.VFs {
		out.VFs = append(out.VFs, v.vf(f))
	}
	return out, nil
}

func (v *vfView) vf(f vf.VF) inspect.VF {
	id := f.Addr.String()
	pf, _ := v.Snapshot.PF(f.PF)
	out := inspect.VF{PF: pf.Label(), Index: f.Index, Address: id, NUMANode: f.NUMANode, Driver: f.Driver,
		Resource: v.pools[id], Policy: v.assigned[fmt.Sprint(f.PF, f.Index)]}
	if r, ok := v.records[id]; ok {
		out.Pod, out.Interface, out.Network = r.Attachment.Pod.String(), r.Attachment.IfName, r.Attachment.Network
	} else if name, ok := strings.CutPrefix(v.users[f.Addr], "pod "); ok {
		out.Pod = name
	}
	out.State, out.Why = v.state(f)
	if pf.Netdev != "" && f.Index >= 0 {
		if seen, err := link.Read(link.Target{PF: pf.Netdev, Driver: pf.Driver, Index: f.Index}); err == nil {
			out.MAC, out.VLAN = seen.MAC, seen.VLAN.ID
		}
	}
	return out
}

// state says what a VF is and why. Who has a VF counts before what is wrong with
// it, but for the quarantine, which comes after the pod.
func (v *vfView) state(f vf.VF) (state, why string) {
	unfit := v.d.vfs.provisioner.Unfit(f.Addr)
	switch by, cause := v.users[f.Addr], v.d.vfs.ward.Cause(f.Addr); {
	case cause != "":
		return inspect.Quarantined, cause
	case by != "":
		return inspect.Used, unfit
	case v.Claims[f.Addr] != "":
		return inspect.HostOwned, v.Claims[f.Addr]
	case unfit != "":
		return inspect.Unfit, unfit
	}
	return inspect.Free, ""
}

// observed is what a plan for this node is made of.
func (d *daemon) observed(ctx context.Context) (inspect.Observed, error) {
	v, err := d.viewVFs(ctx)
	if err != nil {
		return inspect.Observed{}, err
	}
	out := inspect.Observed{Observed: v.Observed, Users: map[string]string{}, Incomplete: strings.Join(v.missing, "; ")}
	for a, by := range v.users {
		out.Users[a.String()] = by
	}
	return out, nil
}
