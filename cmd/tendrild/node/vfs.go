package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/rest"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/journal"
	"github.com/tendril-cni/tendril/cni/sriov"
	"github.com/tendril-cni/tendril/deviceplugin"
	"github.com/tendril-cni/tendril/deviceplugin/podresources"
	"github.com/tendril-cni/tendril/vf"
	vfkube "github.com/tendril-cni/tendril/vf/kube"
	"github.com/tendril-cni/tendril/vf/link"
	"github.com/tendril-cni/tendril/vf/provision"
	"github.com/tendril-cni/tendril/vf/quarantine"
	"github.com/tendril-cni/tendril/vf/sysfs"
)

// vfs is what looks after the node's VFs: the policies' provisioner, the
// quarantine, and the driver that both give VFs back with.
type vfs struct {
	driver      *sriov.Driver
	provisioner *provision.Provisioner
	ward        *quarantine.Ward
	boot        string
	// warn emits a Warning event of the node.
	warn func(reason, message string)
	// adapter is nil without Kubernetes: there are no policies then.
	adapter *vfkube.Adapter
}

// reasonQuarantined is that of the node's event about a VF that stays out of use.
const reasonQuarantined = "VFQuarantined"

// vfStore keeps both their notes in one bucket of the journal: keys are prefixed.
type vfStore struct{ journal *journal.Journal }

// All implements provision.Store and quarantine.Store.
func (s vfStore) All() (map[string][]byte, error) {
	all := map[string][]byte{}
	err := s.journal.View(func(tx *journal.Tx) error {
		return tx.Bucket(journal.VFs).ForEach(func(k, v []byte) error {
			all[string(k)] = append([]byte(nil), v...)
			return nil
		})
	})
	return all, err
}

// Put implements provision.Store and quarantine.Store.
func (s vfStore) Put(key string, value []byte) error {
	return s.journal.Update("vf", func(tx *journal.Tx) error { return tx.Bucket(journal.VFs).Put([]byte(key), value) })
}

// Delete implements provision.Store and quarantine.Store.
func (s vfStore) Delete(key string) error {
	return s.journal.Update("vf", func(tx *journal.Tx) error { return tx.Bucket(journal.VFs).Delete([]byte(key)) })
}

func newInventory(fs *sysfs.FS, cfg Config) *sysfs.Inventory {
	return sysfs.NewInventory(fs, cfg.Log, sysfs.Options{AltNames: link.AltNames, Profiles: new(link.Profiles).Names})
}

// newVFs needs d.inventory, d.journal and d.kubelet. refresh tells the device
// plugin to look again.
func (d *daemon) newVFs(fs *sysfs.FS, boot string, refresh func()) (*vfs, error) {
	v := &vfs{boot: boot, warn: d.warnNode}
	v.driver = sriov.New(fs, d.Log, sriov.Busy(func(a vf.Addr) string { return v.provisioner.Busy(a) }))
	store := vfStore{d.journal}
	var err error
	v.ward, err = quarantine.New(quarantine.Options{
		Store: store, BootID: boot, Log: d.Log,
		Restore: func(ctx context.Context, e quarantine.Entry) error { return v.driver.Restore(ctx, e.Note) },
		Changed: func() { v.provisioner.Poke(); refresh() },
	})
	if err != nil {
		return nil, err
	}
	v.provisioner, err = provision.New(provision.Options{
		Inventory: d.inventory, Kernel: provision.Linux{FS: fs}, Store: store, BootID: boot, Log: d.Log,
		InUse: d.inUse, Quarantined: v.ward.Cause, PFLink: d.PFLink,
		Changed: func(s vf.State) {
			if v.adapter != nil {
				v.adapter.Report(s)
			}
			refresh()
		},
	})
	if err != nil || d.rest == nil {
		return v, err
	}
	v.adapter, err = vfkube.New(d.rest, d.NodeName, vfkube.Options{OnPolicies: v.provisioner.SetPolicies, Guard: true}, d.Log)
	return v, err
}

// inUse tells who uses which VF: attachments in the journal, pods by the
// kubelet's word, and what the kubelet was given so short a time ago that it need
// not show it yet.
func (d *daemon) inUse(ctx context.Context) (func(vf.Addr) string, error) {
	held, err := holdings(d.kubelet, d.journal)(ctx)
	if err != nil {
		return nil, err
	}
	users := map[string]string{}
	if d.offer != nil { // nil for --plan
		for _, id := range recent(d.offer.plugin.Allocations()) {
			users[id] = "a pod that is being started"
		}
	}
	for _, h := range held {
		users[h.ID] = h.Owner
	}
	return func(a vf.Addr) string { return users[a.String()] }, nil
}

func recent(all *deviceplugin.Allocations) (ids []string) {
	for _, a := range all.All() {
		if time.Since(a.Time) < deviceplugin.Settle {
			ids = append(ids, a.IDs...)
		}
	}
	return ids
}

// resources are the pools of the policies.
func (v *vfs) resources() []deviceplugin.Resource {
	var out []deviceplugin.Resource
	for _, s := range v.provisioner.Selections() {
		cut := strings.LastIndexByte(s.Resource, '/')
		prefix, name := s.Resource[:max(cut, 0)], s.Resource[cut+1:]
		out = append(out, deviceplugin.Resource{Prefix: prefix, Name: name, ExcludeTopology: s.ExcludeTopology, Selectors: []deviceplugin.Selector{
			{Addresses: orNothing(s.VhostNet), VhostNet: true}, {Addresses: orNothing(s.VFs)},
		}})
	}
	return out
}

// orNothing adds an address that no device has: a selector without addresses
// would take every device.
func orNothing(list []vf.Addr) []vf.Addr { return append(list[:len(list):len(list)], vf.Addr{}) }

// run looks after the VFs until ctx ends.
func (v *vfs) run(ctx context.Context, g *errgroup.Group, d *daemon) {
	g.Go(func() error { return v.ward.Run(ctx) })
	g.Go(func() error {
		changes, cancel := d.inventory.Subscribe()
		defer cancel()
		return v.driver.Watch(ctx, changes, d.engine.Records, d.engine.GiveBack)
	})
	g.Go(func() error { v.pokeOnChange(ctx, d.inventory); return nil })
	if v.adapter == nil {
		return
	}
	g.Go(func() error { return v.provisioner.Run(ctx) })
	g.Go(func() error { return v.adapter.Run(ctx) })
}

// pokeOnChange has the quarantine try again when the hardware changed.
func (v *vfs) pokeOnChange(ctx context.Context, inv *sysfs.Inventory) {
	changes, cancel := inv.Subscribe()
	defer cancel()
	for {
		select {
		case <-ctx.Done():
			return
		case <-changes:
			v.ward.Poke()
		}
	}
}

// Entry implements cni.Quarantine.
func (v *vfs) Entry(r cni.Record, cause error) (key, value []byte, err error) {
	e, err := v.entry(r, cause)
	if err != nil {
		return nil, nil, err
	}
	value, err = quarantine.Value(e)
	return []byte(quarantine.Key(e.VF)), value, err
}

// Key implements cni.Quarantine.
func (v *vfs) Key(device string) []byte {
	a, err := vf.ParseAddr(device)
	if err != nil {
		return []byte(device) // no VF, so no entry
	}
	return []byte(quarantine.Key(a))
}

// Noticed implements cni.Quarantine.
func (v *vfs) Noticed(r cni.Record, cause error) {
	if e, err := v.entry(r, cause); err == nil {
		v.ward.Noticed(e)
		v.warn(reasonQuarantined, fmt.Sprintf("VF %s is not back at its baseline after %s, and nobody gets it until it is; it is tried on: %s", e.VF, e.Holder, e.Cause))
	}
}

func (v *vfs) entry(r cni.Record, cause error) (quarantine.Entry, error) {
	a := r.Attachment
	addr, err := vf.ParseAddr(a.Device)
	if err != nil {
		return quarantine.Entry{}, err
	}
	note, err := json.Marshal(r)
	return quarantine.Entry{VF: addr, Holder: fmt.Sprintf("pod %s interface %s", a.Pod, a.IfName), Cause: cause.Error(),
		Since: time.Now(), Boot: v.boot, Note: note}, err
}

// PrintPlan writes what the policies would do to this node's VFs, and changes
// nothing (tendrild --plan). A daemon may run meanwhile: its journal is locked, so
// the copy on disk tells what is attached.
func PrintPlan(ctx context.Context, cfg Config, w io.Writer) error {
	dir, err := os.MkdirTemp(cfg.RunDir, ".plan-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	d := &daemon{Config: cfg}
	defer d.close()
	if err := d.openForPlan(filepath.Join(dir, "journal.db")); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return d.inventory.Run(gctx) })
	err = d.printPlan(gctx, w)
	cancel()
	return errors.Join(err, g.Wait())
}

func (d *daemon) openForPlan(journalPath string) (err error) {
	if err := d.validate(); err != nil {
		return err
	}
	data, err := os.ReadFile(d.journalCopy())
	if err == nil {
		err = os.WriteFile(journalPath, data, 0o600)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read journal copy: %w", err)
	}
	if d.journal, err = journal.Open(journal.Options{Path: journalPath, Log: d.Log}); err != nil {
		return err
	}
	if d.rest, err = restConfig(d.Kubeconfig); err != nil {
		return fmt.Errorf("find the API server (--kubeconfig): %w", err)
	}
	tree := sysfs.New(d.SysfsRoot)
	d.inventory = newInventory(tree, d.Config)
	if d.kubelet, err = podresources.New(d.KubeletRoot); err != nil {
		return err
	}
	boot, err := bootID()
	if err != nil {
		return err
	}
	d.vfs, err = d.newVFs(tree, boot, func() {})
	return err
}

func (d *daemon) printPlan(ctx context.Context, w io.Writer) error {
	if err := d.inventory.Refresh(ctx); err != nil {
		return err
	}
	policies, refused, err := fetchPolicies(ctx, d.rest, d.NodeName)
	if err != nil {
		return err
	}
	for _, r := range refused {
		fmt.Fprintln(w, r)
	}
	steps, err := d.vfs.provisioner.Plan(ctx, policies)
	if err != nil {
		return err
	}
	return vf.Print(w, steps)
}

func fetchPolicies(ctx context.Context, config *rest.Config, node string) ([]vf.Policy, []string, error) {
	policies, states, err := vfkube.Fetch(ctx, config, node)
	var refused []string
	for _, s := range states {
		refused = append(refused, fmt.Sprintf("policy %s is refused: %s", s.Name, s.Message))
	}
	return policies, refused, err
}
