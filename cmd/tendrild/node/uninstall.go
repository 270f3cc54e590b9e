package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tendril-cni/tendril/cmd/tendrild/install"
	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/journal"
	"github.com/tendril-cni/tendril/cni/refusal"
	"github.com/tendril-cni/tendril/cni/rpc"
	"github.com/tendril-cni/tendril/cni/spool"
	"github.com/tendril-cni/tendril/deviceplugin"
	"github.com/tendril-cni/tendril/ipam"
	"github.com/tendril-cni/tendril/ipam/v1alpha1"
)

// uninstallTime bounds what is undone on the way.
const uninstallTime = time.Minute

// Uninstall takes Tendril off the node, for a node whose daemon does not run any
// more: the journal's lock is the proof. It first does what is owed and can be
// done, and refuses, unless cfg.Force is set, while pods still have networks that only
// Tendril can give back, or VFs are in quarantine; it names them. Then it removes the
// configuration, so that the runtime has the default network's own again, the shim,
// what describes devices, and its directories. It may be repeated.
func Uninstall(ctx context.Context, cfg Config) error {
	ctx, cancel := context.WithTimeout(ctx, uninstallTime)
	defer cancel()
	if err := uninstall(ctx, cfg); err != nil {
		return err
	}
	if err := deviceplugin.Forget(deviceInfoDir, cdiDir); err != nil {
		return err
	}
	did, err := install.RemoveDirs(cfg.RunDir, cfg.StateDir)
	for _, what := range did {
		cfg.Log.Info("uninstall", "did", what)
	}
	return err
}

// uninstall is Uninstall up to what the journal is needed for.
func uninstall(ctx context.Context, cfg Config) error {
	d := &daemon{Config: cfg}
	d.Cluster, d.Report = nobody{}, nobody{}
	defer d.close()
	if err := d.open(); err != nil {
		return fmt.Errorf("uninstall (the daemon has to be removed from this node before): %w", err)
	}
	if err := d.engine.Recover(ctx); err != nil {
		return fmt.Errorf("uninstall: %w", err)
	}
	queue, err := spool.Open(d.spoolDir())
	if err != nil {
		return err
	}
	d.upkeep = &upkeep{}
	if d.upkeep.taken, err = d.engine.Imported(); err != nil {
		return err
	}
	d.upkeep.debts = &debts{engine: d.engine, spool: queue, settled: d.deleted, log: d.Log}
	d.upkeep.debts.first(ctx)
	// No call of the runtime comes to this program, in whose place the plugins of
	// the others could run; and after it nobody remembers that they should.
	d.upkeep.debts.each(ctx, func(e spool.Entry) error { return d.upkeep.debts.redeem(ctx, e, d.runHere) })
	if err := errors.Join(d.unused(), d.noPatients()); err != nil {
		return err
	}
	d.giveUpAddresses(ctx)
	did, err := install.Uninstall(d.CNIConfDir, d.CNIBinDir)
	for _, what := range did {
		d.Log.Info("uninstall", "did", what)
	}
	left, spoolErr := queue.Close()
	if left > 0 {
		d.Log.Warn("DELs are left that could not be done", "spool", queue.Dir(), "count", left)
	}
	return errors.Join(err, spoolErr)
}

// runHere implements cni.Runner in this process' own context: the uninstaller sees
// the host's network, namespaces, plugins and their state.
func (d *daemon) runHere(ctx context.Context, plugin string, stdin []byte, env []string) ([]byte, error) {
	res := rpc.Run(ctx, rpc.ExecRequest{Plugin: plugin, Dirs: append(d.pluginDirs(), d.CNIBinDir), Stdin: stdin, Env: env, TimeoutMillis: millis(ctx)})
	return res.Stdout, outcome(plugin, res)
}

// noPatients refuses while VFs are in quarantine: only the daemon tries to bring
// them back, and remembers that they are not.
func (d *daemon) noPatients() error {
	var vfs []string
	for _, e := range d.vfs.ward.Entries() {
		vfs = append(vfs, e.VF.String()+" ("+e.Cause+")")
	}
	if len(vfs) == 0 {
		return nil
	}
	return d.unlessForced(refusal.New("node "+d.NodeName, "VFs in quarantine", strings.Join(vfs, ", "), "none: let the daemon restore them, or uninstall with --force and leave them as they are"))
}

// unlessForced returns the refusal, or only logs it where --force was given.
func (d *daemon) unlessForced(refused error) error {
	if !d.Force {
		return refused
	}
	d.Log.Warn("uninstalled all the same", "error", refused)
	return nil
}

// giveUpAddresses gives the node's part of the cluster's addresses back. What it
// cannot give back stays this node's until somebody orders otherwise.
func (d *daemon) giveUpAddresses(ctx context.Context) {
	var has []string
	err := ledger{d.journal}.View(func(s ipam.Store) error {
		l := ipam.NewLedger(s)
		has = l.Spaces()
		return l.Err()
	})
	if err == nil && len(has) == 0 {
		return
	}
	if err == nil {
		err = d.quit(ctx)
	}
	if err != nil {
		d.Log.Warn("addresses of this node not given back; annotate its Node object with "+v1alpha1.OrderAnnotation+" and its uid", "error", err)
	}
}

func (d *daemon) quit(ctx context.Context) (err error) {
	if d.rest, err = restConfig(d.Kubeconfig); err != nil {
		return err
	}
	if d.slots, err = d.newAddresses(); err != nil {
		return err
	}
	if err := d.slots.prepare(ctx); err != nil {
		return err
	}
	return d.slots.Quit(ctx)
}

// unused refuses while pods have networks beside their default one.
func (d *daemon) unused() error {
	var pods []string
	err := d.journal.View(func(tx *journal.Tx) error {
		held, err := cni.Held(tx)
		for _, a := range held {
			if !a.Default {
				pods = append(pods, a.Pod.String())
			}
		}
		return err
	})
	if err != nil || len(pods) == 0 {
		return err
	}
	slices.Sort(pods)
	pods = slices.Compact(pods)
	return d.unlessForced(refusal.New("node "+d.NodeName, "pods with networks of Tendril", strings.Join(pods, ", "), "none: delete or move them while the daemon runs, or uninstall with --force and leave their devices as they are"))
}

// nobody stands for the API server where there is nothing to ask or to tell.
type nobody struct{}

func (nobody) Pod(context.Context, string, string, string) (cni.Pod, error) {
	return cni.Pod{}, errors.New("uninstalling: no pod is looked up")
}

func (nobody) Definition(context.Context, string, string) (cni.Definition, error) {
	return cni.Definition{}, errors.New("uninstalling: no definition is looked up")
}

func (nobody) Publish(cni.PodRef, []cni.NetworkStatus) {}
func (nobody) Added(cni.PodRef, []cni.Made)            {}
func (nobody) Refused(cni.PodRef, error)               {}
