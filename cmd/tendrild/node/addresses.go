package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/metadata"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/journal"
	"github.com/tendril-cni/tendril/ipam"
	ipamkube "github.com/tendril-cni/tendril/ipam/kube"
)

// How often the node looks who it is, and tries again after that failed. A Node
// object that was deleted and made anew has another uid: what the node has of the
// cluster's addresses is its own only under that one.
const (
	identifyEvery = 30 * time.Second
	identifyRetry = 2 * time.Second
	identifyTime  = 5 * time.Second
)

// ledger is the journal as the keeper of the node's addresses sees it.
type ledger struct{ journal *journal.Journal }

// Update implements ipamkube.Journal.
func (l ledger) Update(step string, fn func(ipam.Store) error) error {
	return l.journal.Update(step, func(tx *journal.Tx) error { return fn(tx.Bucket(journal.Addresses)) })
}

// View implements ipamkube.Journal.
func (l ledger) View(fn func(ipam.Store) error) error {
	return l.journal.View(func(tx *journal.Tx) error { return fn(tx.Bucket(journal.Addresses)) })
}

// addresses is the node's part of the cluster's address spaces. It implements
// cni.Claimer.
type addresses struct {
	*ipamkube.Node
	name string
	self metadata.Getter
	// alongside looks for another allocator of the same addresses.
	alongside func(context.Context) error

	// turn has room for one: who prepares, and may read and write ready. It can be
	// waited for with a deadline.
	turn chan struct{}
	// ready says that the uid of the Node object is known, and who else hands out
	// addresses.
	ready bool
}

// newAddresses needs d.rest, d.journal and d.reporter.
func (d *daemon) newAddresses() (*addresses, error) {
	if d.rest == nil {
		return nil, nil
	}
	client, err := metadata.NewForConfig(d.rest)
	if err != nil {
		return nil, fmt.Errorf("make client for the Node object: %w", err)
	}
	a := &addresses{name: d.NodeName, turn: make(chan struct{}, 1), alongside: d.besideWhereabouts, self: client.Resource(corev1.SchemeGroupVersion.WithResource("nodes"))}
	a.Node, err = ipamkube.New(d.rest, ipamkube.Options{Name: d.NodeName, Journal: ledger{d.journal}, Log: d.Log, Lost: d.addressLost})
	return a, err
}

// Claim implements cni.Claimer. Without a Node object nothing is claimed: it would
// be taken for that of a node that is gone.
func (a *addresses) Claim(ctx context.Context, need *ipam.NeedSlots) error {
	if err := a.prepare(ctx); err != nil {
		return err
	}
	return a.Node.Claim(ctx, need)
}

// prepare finds out, once, what has to be known before the first claim.
func (a *addresses) prepare(ctx context.Context) error {
	select {
	case a.turn <- struct{}{}:
		defer func() { <-a.turn }()
	case <-ctx.Done():
		return fmt.Errorf("look after addresses: %w", ctx.Err())
	}
	if a.ready {
		return nil
	}
	if err := a.identify(ctx); err != nil {
		return err
	}
	look, cancel := context.WithTimeout(ctx, identifyTime)
	defer cancel()
	if err := a.alongside(look); err != nil {
		return err
	}
	a.ready = true
	return nil
}

// identify reads the uid of the Node object.
func (a *addresses) identify(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, identifyTime)
	defer cancel()
	node, err := a.self.Get(ctx, a.name, metav1.GetOptions{ResourceVersion: "0"})
	if err != nil {
		return fmt.Errorf("read node %s: %w", a.name, err)
	}
	a.Identify(string(node.UID))
	return nil
}

// keepAddresses runs what looks after the node's addresses until ctx ends. fresh
// says that the journal knows nothing of an earlier daemon.
func (d *daemon) keepAddresses(ctx context.Context, g *errgroup.Group, fresh bool) {
	if d.slots == nil {
		return
	}
	g.Go(func() error { return d.slots.Run(ctx) })
	g.Go(func() error {
		d.repeat(ctx, identifyEvery, func() error {
			if err := d.slots.prepare(ctx); err != nil {
				return err
			}
			return d.slots.identify(ctx)
		})
		return nil
	})
	if fresh {
		g.Go(func() error { d.rebuildAddresses(ctx); return nil })
	}
}

// rebuildAddresses finds what the node has of the cluster's addresses, for a
// journal that says nothing. Until it is done nothing is handed out that it might
// find: a block is looked at before the node takes anything from it.
func (d *daemon) rebuildAddresses(ctx context.Context) {
	ctx, done := context.WithCancel(ctx)
	defer done()
	d.repeat(ctx, identifyRetry, func() error {
		err := d.slots.Rebuild(ctx)
		if err == nil {
			done()
		}
		return err
	})
}

// repeat calls do each period until ctx ends, sooner after an error.
func (d *daemon) repeat(ctx context.Context, every time.Duration, do func() error) {
	for {
		pause := every
		if err := do(); err != nil && ctx.Err() == nil {
			d.Log.Debug("look after the node's addresses", "error", err)
			pause = min(every, identifyRetry)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}

// addressLost tells of an address that a pod has although it is another node's
// by now.
func (d *daemon) addressLost(space string, a netip.Addr, holder ipam.Owner) {
	namespace, name, _ := strings.Cut(holder.Pod, "/")
	d.reporter.Address(cni.PodRef{Namespace: namespace, Name: name, UID: holder.UID}, fmt.Sprintf("address %s of space %q, which the pod has, was given to another node: this node was taken for gone; delete the pod", a, space))
}

// flatFile is where whereabouts keeps its defaults, below the runtime's directory.
const flatFile = "whereabouts.d/whereabouts.conf"

// flat implements cni.Options.Flat: the first of whereabouts' files that is there.
// configuration_path of a definition is not followed: whoever may write definitions
// would read any file of the host with it.
func (d *daemon) flat() (json.RawMessage, error) {
	for _, path := range append([]string{filepath.Join(d.CNIConfDir, flatFile)}, ipam.FlatFiles...) {
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read the defaults of whereabouts: %w", err)
		}
		return data, nil
	}
	return nil, nil
}

// claimer is a as the engine wants it: nil without Kubernetes.
func (a *addresses) claimer() cni.Claimer {
	if a == nil {
		return nil
	}
	return a
}

// outdated looks whether the journal is a copy from this very boot: pods may run
// whose addresses it does not know, so what seems idle is probed before it is used.
// After a reboot no pod runs.
func (d *daemon) outdated() error {
	if !d.journal.Restored() {
		return nil
	}
	return d.journal.Update("outdated", func(tx *journal.Tx) error {
		if tx.Boot() != d.engine.BootID {
			return nil
		}
		l := ipam.NewLedger(tx.Bucket(journal.Addresses))
		l.Outdated()
		return l.Err()
	})
}
