package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"k8s.io/client-go/rest"

	"github.com/tendril-cni/tendril/cni/journal"
	"github.com/tendril-cni/tendril/ipam"
	"github.com/tendril-cni/tendril/ipam/kube"
)

// calls counts what reaches the API server.
type calls struct{ reads, writes, outrun, lists atomic.Int64 }

func (c *calls) wrap(config *rest.Config) *rest.Config {
	out := rest.CopyConfig(config)
	out.Wrap(func(next http.RoundTripper) http.RoundTripper { return counter{c, next} })
	return out
}

func (c *calls) String() string {
	return fmt.Sprintf("%d writes, %d of them refused because another node was first, %d reads, %d lists",
		c.writes.Load(), c.outrun.Load(), c.reads.Load(), c.lists.Load())
}

type counter struct {
	*calls
	next http.RoundTripper
}

func (c counter) RoundTrip(r *http.Request) (*http.Response, error) {
	switch {
	case r.Method != http.MethodGet:
		c.writes.Add(1)
	case strings.HasSuffix(r.URL.Path, "/addressblocks"):
		c.lists.Add(1)
	default:
		c.reads.Add(1)
	}
	resp, err := c.next.RoundTrip(r)
	if err == nil && resp.StatusCode == http.StatusConflict {
		c.outrun.Add(1)
	}
	return resp, err
}

// book gives a Node its journal.
type book struct{ *journal.Journal }

func (b book) Update(step string, fn func(ipam.Store) error) error {
	return b.Journal.Update(step, func(tx *journal.Tx) error { return fn(tx.Bucket(journal.Addresses)) })
}

func (b book) View(fn func(ipam.Store) error) error {
	return b.Journal.View(func(tx *journal.Tx) error { return fn(tx.Bucket(journal.Addresses)) })
}

// patience is how long a call may take: hundreds of nodes share one small machine
// with their API server here, and nobody is to give up for that.
const patience = time.Minute

// node is one node's journal and Node.
type node struct {
	book book
	kube *kube.Node
}

func newNode(config *rest.Config, dir, name string) (*node, error) {
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	j, err := journal.Open(journal.Options{Path: filepath.Join(dir, name+".db"), Log: log})
	if err != nil {
		return nil, err
	}
	n := &node{book: book{j}}
	n.kube, err = kube.New(config, kube.Options{Name: name, UID: name, Journal: n.book, Log: log, Call: patience})
	return n, err
}

// add is the address part of one ADD.
func (n *node) add(ctx context.Context, c ipam.Config, id string) ([]netip.Addr, error) {
	o := ipam.Owner{Container: id, IfName: "net1", Pod: "bench/" + id, UID: id}
	for {
		var lease ipam.Lease
		err := n.book.Update("intent", func(s ipam.Store) (err error) {
			lease, err = ipam.Reserve(s, "bench", c, o, nil)
			return err
		})
		var need *ipam.NeedSlots
		if errors.As(err, &need) {
			if err = n.kube.Claim(ctx, need); err == nil {
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

func (n *node) del(id string) error {
	return n.book.Update("done", func(s ipam.Store) error {
		return ipam.Release(s, "bench", ipam.Owner{Container: id, IfName: "net1"})
	})
}
