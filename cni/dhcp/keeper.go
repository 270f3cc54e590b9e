package dhcp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tendril-cni/tendril/cni/netns"
)

// Kept is a lease that is kept: the caller's record of it.
type Kept struct {
	// Container and Request.IfName name the attachment; Netns is the path of the
	// pod's namespace and its identity.
	Container string  `json:"container"`
	Netns     string  `json:"netns"`
	Request   Request `json:"request"`
	Lease     Lease   `json:"lease"`
}

// Store is where a Keeper's owner keeps leases, so that a new Keeper goes on with
// them.
type Store interface {
	// Save stores k before Keep or a renewal returns.
	Save(k Kept) error
	// Forget drops what Save stored; nothing stored is dropped.
	Forget(clientID string) error
}

// Keeper renews leases until they are dropped. Make it with NewKeeper; Close ends
// its goroutines and leaves the leases with the servers.
type Keeper struct {
	store Store
	log   *slog.Logger

	// mu guards running, closed, and the leases of the watches.
	mu      sync.Mutex
	running map[string]*watch
	closed  bool
	wg      sync.WaitGroup
}

// watch is the goroutine of one lease.
type watch struct {
	cancel context.CancelFunc
	done   chan struct{}
	// kept is written by the goroutine alone; its lease under the Keeper's mu.
	kept Kept
}

// NewKeeper returns a Keeper of no lease.
func NewKeeper(store Store, log *slog.Logger) *Keeper {
	return &Keeper{store: store, log: log, running: map[string]*watch{}}
}

// Acquire gets a lease, stores it and keeps it. One that is kept already is the
// answer.
func (k *Keeper) Acquire(ctx context.Context, ns *os.File, container, path string, r Request) (Lease, error) {
	if l, ok := k.held(r.ClientID); ok {
		return l, nil
	}
	l, err := Acquire(ctx, ns, r)
	if err != nil {
		return Lease{}, err
	}
	kept := Kept{Container: container, Netns: path, Request: r, Lease: l}
	if err := k.store.Save(kept); err != nil {
		return Lease{}, errors.Join(fmt.Errorf("store lease of %s: %w", l.Address.Prefix, err), Release(ns, r, l))
	}
	k.log.Info("lease acquired", "container", container, "ifname", r.IfName, "address", l.Address.Prefix.String(), "until", l.Expire)
	return l, k.Keep(ns, kept)
}

// Keep goes on with a stored lease. ns is duplicated: the caller may close it.
func (k *Keeper) Keep(ns *os.File, kept Kept) error {
	fd, err := unix.FcntlInt(ns.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("keep lease of %s: %w", kept.Lease.Address.Prefix, err)
	}
	own := os.NewFile(uintptr(fd), ns.Name())
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed || k.running[kept.Request.ClientID] != nil {
		return own.Close()
	}
	ctx, cancel := context.WithCancel(context.Background())
	w := &watch{cancel: cancel, done: make(chan struct{}), kept: kept}
	k.running[kept.Request.ClientID] = w
	k.wg.Go(func() {
		defer close(w.done)
		k.maintain(ctx, own, w)
		if err := own.Close(); err != nil {
			k.log.Debug("close namespace", "error", err)
		}
	})
	return nil
}

// Drop ends the keeping of a lease and gives it back through ns, nil when the
// pod's namespace is gone: the server finds out by itself then. What is not kept
// is dropped.
func (k *Keeper) Drop(ns *os.File, clientID string) error {
	k.mu.Lock()
	w := k.running[clientID]
	delete(k.running, clientID)
	k.mu.Unlock()
	if w != nil {
		w.cancel()
		<-w.done
		if ns != nil {
			// Best effort: the interface may be gone, and a lease that is not given
			// back expires.
			if err := Release(ns, w.kept.Request, w.kept.Lease); err != nil {
				k.log.Debug("lease not given back", "client", clientID, "error", err)
			}
		}
	}
	return k.store.Forget(clientID)
}

// held returns the lease that is kept for a client.
func (k *Keeper) held(clientID string) (Lease, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	w := k.running[clientID]
	if w == nil {
		return Lease{}, false
	}
	return w.kept.Lease, true
}

// Kept reports whether a lease is kept for the client.
func (k *Keeper) Kept(clientID string) bool {
	_, ok := k.held(clientID)
	return ok
}

// Close ends all goroutines and waits for them. The leases stay.
func (k *Keeper) Close() {
	k.mu.Lock()
	k.closed = true
	for _, w := range k.running {
		w.cancel()
	}
	k.mu.Unlock()
	k.wg.Wait()
}

// retry is the shortest pause between attempts (RFC 2131 section 4.4.5 says half
// of the time left, and a minute at least; tests have leases of seconds).
const retry = time.Second

// maintain renews the lease in time, asks any server after Rebind, and at its end
// takes the interface down, whose address may be someone else's from then on.
func (k *Keeper) maintain(ctx context.Context, ns *os.File, w *watch) {
	for next := w.kept.Lease.Renew; ; {
		timer := time.NewTimer(max(time.Until(next), retry))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		l, err := k.extend(ctx, ns, w.kept)
		switch {
		case ctx.Err() != nil:
			return // dropped or closed meanwhile
		case err == nil:
			k.mu.Lock()
			w.kept.Lease = l
			k.mu.Unlock()
			if err := k.store.Save(w.kept); err != nil {
				k.log.Warn("store renewed lease", "client", w.kept.Request.ClientID, "error", err)
			}
			k.log.Debug("lease renewed", "client", w.kept.Request.ClientID, "until", l.Expire)
			next = l.Renew
		case errors.Is(err, netns.ErrNotFound):
			return // the interface went without a DEL; DEL or GC drops the lease
		case time.Now().After(w.kept.Lease.Expire):
			k.log.Warn("lease expired; interface taken down", "client", w.kept.Request.ClientID, "address", w.kept.Lease.Address.Prefix.String(), "error", err)
			k.down(ns, w.kept.Request.IfName)
			return
		default:
			k.log.Warn("lease not renewed yet", "client", w.kept.Request.ClientID, "error", err)
			next = time.Now().Add(time.Until(w.kept.Lease.Expire) / 2) // never less than retry
		}
	}
}

// extend renews with the lease's server or, past Rebind, asks all servers again.
func (k *Keeper) extend(ctx context.Context, ns *os.File, kept Kept) (Lease, error) {
	conn, err := netns.Dial(ns)
	if err != nil {
		return Lease{}, err
	}
	_, err = conn.LinkByName(kept.Request.IfName)
	if err = errors.Join(err, conn.Close()); err != nil {
		return Lease{}, err
	}
	// Not beyond the end of the lease, at which the interface has to go down.
	ctx, cancel := context.WithTimeout(ctx, max(time.Until(kept.Lease.Expire), retry))
	defer cancel()
	if time.Now().Before(kept.Lease.Rebind) {
		return Renew(ctx, ns, kept.Request, kept.Lease)
	}
	l, err := Acquire(ctx, ns, kept.Request)
	if err == nil && l.Address.Prefix != kept.Lease.Address.Prefix {
		err = errors.Join(fmt.Errorf("rebind lease of %s: the servers offer %s", kept.Lease.Address.Prefix, l.Address.Prefix), Release(ns, kept.Request, l))
	}
	return l, err
}

func (k *Keeper) down(ns *os.File, ifName string) {
	conn, err := netns.Dial(ns)
	if err != nil {
		k.log.Warn("take interface down", "ifname", ifName, "error", err)
		return
	}
	l, err := conn.LinkByName(ifName)
	if err == nil {
		err = conn.Down(l.Index)
	}
	if err = errors.Join(err, conn.Close()); err != nil {
		k.log.Warn("take interface down", "ifname", ifName, "error", err)
	}
}
