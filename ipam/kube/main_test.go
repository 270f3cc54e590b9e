package kube_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"github.com/tendril-cni/tendril/cni/journal"
	"github.com/tendril-cni/tendril/ipam"
	"github.com/tendril-cni/tendril/ipam/kube"
	"github.com/tendril-cni/tendril/ipam/v1alpha1"
	lab "github.com/tendril-cni/tendril/tests/lab/kube"
)

var server lab.Shared

// spaces numbers the address spaces of tests, so that they share one API server.
var spaces atomic.Int64

func TestMain(m *testing.M) { server.Main(m) }

func newSpace() string { return fmt.Sprintf("s%d", spaces.Add(1)) }

func shared(t testing.TB, space, inside string) ipam.Config {
	t.Helper()
	c, err := ipam.Parse([]byte(`{"type":"whereabouts","network_name":"` + space + `",` + inside + `}`))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// book is the journal of a node as its wiring hands it to the Node.
type book struct{ *journal.Journal }

func (b book) Update(step string, fn func(ipam.Store) error) error {
	return b.Journal.Update(step, func(tx *journal.Tx) error { return fn(tx.Bucket(journal.Addresses)) })
}

func (b book) View(fn func(ipam.Store) error) error {
	return b.Journal.View(func(tx *journal.Tx) error { return fn(tx.Bucket(journal.Addresses)) })
}

// box is a node's machine: what is left when its daemon is killed is the journal.
type box struct {
	name, uid string
	path      string
	config    *rest.Config
	net       *faults
	options   kube.Options

	book book
	node *kube.Node
	stop context.CancelFunc
	done chan struct{}
}

func newBox(t testing.TB, config *rest.Config, name string) *box {
	t.Helper()
	b := &box{name: name, uid: name + "-uid", path: filepath.Join(t.TempDir(), "journal.db"), net: &faults{}}
	b.config = b.net.wrap(config)
	b.options = kube.Options{CoolDown: 100 * time.Millisecond, Patience: 2 * time.Second, Poll: 300 * time.Millisecond, IdleAfter: time.Hour}
	t.Cleanup(b.kill)
	return b
}

// start runs the daemon.
func (b *box) start(t testing.TB) *box {
	t.Helper()
	j, err := journal.Open(journal.Options{Path: b.path, Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	b.book = book{j}
	o := b.options
	o.Name, o.UID, o.Journal, o.Log = b.name, b.uid, b.book, quiet()
	if b.node, err = kube.New(b.config, o); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	b.stop, b.done = stop, make(chan struct{})
	go func() {
		defer close(b.done)
		_ = b.node.Run(ctx)
	}()
	return b
}

// kill ends the daemon wherever it is; what it sent stays on its way.
func (b *box) kill() {
	if b.stop == nil {
		return
	}
	b.stop()
	_ = b.book.Close()
	<-b.done
	b.stop = nil
}

func pod(n int) ipam.Owner {
	return ipam.Owner{Container: fmt.Sprintf("c%d", n), IfName: "net1", Pod: fmt.Sprintf("blue/p%d", n), UID: fmt.Sprintf("u%d", n)}
}

// add is what the engine does with Reserve and Claim.
func (b *box) add(ctx context.Context, c ipam.Config, o ipam.Owner, asked ...string) ([]netip.Addr, error) {
	ips, err := ipam.ParseAsked(asked)
	if err != nil {
		return nil, err
	}
	for {
		var lease ipam.Lease
		err := b.book.Update("intent", func(s ipam.Store) (err error) {
			lease, err = ipam.Reserve(s, "n", c, o, ips)
			return err
		})
		var need *ipam.NeedSlots
		if errors.As(err, &need) {
			if err = b.node.Claim(ctx, need); err == nil {
				continue
			}
		}
		var out []netip.Addr
		for _, a := range lease.Addresses {
			out = append(out, a.Prefix.Addr())
		}
		return out, err
	}
}

func (b *box) del(o ipam.Owner) error {
	return b.book.Update("done", func(s ipam.Store) error { return ipam.Release(s, "n", o) })
}

func (b *box) mustAdd(t testing.TB, c ipam.Config, n int, asked ...string) string {
	t.Helper()
	got, err := b.add(t.Context(), c, pod(n), asked...)
	if err != nil {
		t.Fatalf("pod %d on %s: %v", n, b.name, err)
	}
	return fmt.Sprint(got)
}

// lease is what the owner, which has addresses, has.
func (b *box) lease(t testing.TB, c ipam.Config, o ipam.Owner) (lease ipam.Lease) {
	t.Helper()
	err := b.book.Update("look", func(s ipam.Store) (err error) {
		lease, err = ipam.Reserve(s, "n", c, o, nil)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return lease
}

func (b *box) mustDel(t testing.TB, n int) {
	t.Helper()
	if err := b.del(pod(n)); err != nil {
		t.Fatal(err)
	}
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func newClient(t testing.TB) *kube.Blocks {
	t.Helper()
	b, err := kube.NewBlocks(server.Config(t))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// entries is how many slots of a space are not free.
func entries(t testing.TB, space string) (count int) {
	t.Helper()
	err := newClient(t).List(t.Context(), func(b *v1alpha1.AddressBlock) error {
		if b.Spec.Space == space {
			count += b.Taken(time.Now()).Count()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return count
}

// eventually polls until what is true, and fails the test when it does not
// become so in time.
func eventually(t testing.TB, within time.Duration, what string, check func() bool) {
	t.Helper()
	deadline := time.Now().Add(within)
	for !check() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", within, what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
