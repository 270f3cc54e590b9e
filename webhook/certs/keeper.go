package certs

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// ErrConflict is a Save over a version that is not the newest any more.
var ErrConflict = errors.New("changed by another replica")

// Store keeps the state where all replicas see it.
type Store interface {
	// Load returns the data and its version; no data when there is none yet.
	Load(ctx context.Context) (data map[string][]byte, version string, err error)
	// Save replaces the data if version is still the newest, else the error wraps
	// ErrConflict.
	Save(ctx context.Context, data map[string][]byte, version string) error
}

// Publisher tells API servers whom to trust.
type Publisher interface {
	// Publish returns nil when every webhook configuration has bundle.
	Publish(ctx context.Context, bundle []byte) error
}

// Keeper keeps a serving certificate of our own.
type Keeper struct {
	store     Store
	publisher Publisher
	policy    Policy
	interval  time.Duration
	now       func() time.Time
	log       *slog.Logger
	poke      chan struct{}

	mu        sync.RWMutex // guards what follows
	state     State
	published time.Time // since when state's bundle has been seen published
	looked    time.Time // when Step last succeeded
	failed    error     // why the last Step did not
}

// NewKeeper returns a Keeper that looks at the state every interval. now is the
// clock, time.Now but for tests. It does nothing before Run or Step.
func NewKeeper(store Store, publisher Publisher, policy Policy, interval time.Duration, now func() time.Time, log *slog.Logger) *Keeper {
	return &Keeper{store: store, publisher: publisher, policy: policy.withDefaults(), interval: interval, now: now, log: log, poke: make(chan struct{}, 1)}
}

// Run keeps the certificate until ctx ends, and returns nil then. Troubles are
// logged and tried again: the old pair serves on.
func (k *Keeper) Run(ctx context.Context) error {
	ticker := time.NewTicker(k.interval)
	defer ticker.Stop()
	for {
		if err := k.Step(ctx); err != nil && ctx.Err() == nil {
			k.log.Warn("webhook certificate not looked after, will be tried again", "error", err)
		}
		select {
		case <-ticker.C:
		case <-k.poke:
		case <-ctx.Done():
			return nil
		}
	}
}

// Poke makes Run look at once: something else in the webhook configurations
// changed.
func (k *Keeper) Poke() {
	select {
	case k.poke <- struct{}{}:
	default: // it will look anyway
	}
}

// Step looks once: it reads the state, changes it if it is time, and publishes
// its bundle.
func (k *Keeper) Step(ctx context.Context) error {
	err := k.step(ctx)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.failed = err; err == nil {
		k.looked = k.now()
	}
	return err
}

func (k *Keeper) step(ctx context.Context) error {
	// Every change is made known before the next one, and there are few.
	for range 4 {
		changed, err := k.advance(ctx)
		if err != nil && !errors.Is(err, ErrConflict) {
			return err
		}
		if err == nil && !changed {
			return nil
		}
	}
	return nil
}

// advance makes at most one change to the state.
func (k *Keeper) advance(ctx context.Context) (changed bool, err error) {
	data, version, err := k.store.Load(ctx)
	if err != nil {
		return false, fmt.Errorf("load webhook certificate: %w", err)
	}
	state, err := Parse(data)
	if err != nil {
		// Nobody can serve with it, so a new one does no harm.
		k.log.Warn("webhook certificate is damaged and made anew", "error", err)
		state = State{}
	}
	k.adopt(state)
	if !state.empty() {
		if err := k.publish(ctx, state); err != nil {
			return false, err
		}
	}
	next, changed, err := state.Next(k.now(), k.since(), k.policy)
	if err != nil || !changed {
		return false, err
	}
	if err := k.store.Save(ctx, next.Data(), version); err != nil {
		return false, fmt.Errorf("save webhook certificate: %w", err)
	}
	k.log.Info("webhook certificate changed", "authorities", len(next.authorities), "until", next.leaf.Leaf.NotAfter)
	return true, nil
}

// adopt serves with state from now on.
func (k *Keeper) adopt(state State) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if state.empty() {
		return
	}
	if !bytes.Equal(state.Bundle(), k.state.Bundle()) {
		k.published = time.Time{}
	}
	k.state = state
}

func (k *Keeper) publish(ctx context.Context, state State) error {
	if err := k.publisher.Publish(ctx, state.Bundle()); err != nil {
		k.mu.Lock()
		k.published = time.Time{}
		k.mu.Unlock()
		return fmt.Errorf("publish certificate authority: %w", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.published.IsZero() {
		k.published = k.now()
	}
	return nil
}

func (k *Keeper) since() time.Time {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.published
}

// Certificate returns the pair to serve with; it is for tls.Config.
func (k *Keeper) Certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if k.state.empty() {
		return nil, errors.New("no webhook certificate yet")
	}
	return k.state.leaf, nil
}

// Bundle returns the authorities in PEM that vouch for Certificate, nil before
// there is one.
func (k *Keeper) Bundle() []byte {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.state.Bundle()
}

// Expiry returns until when the pair is valid, zero before there is one.
func (k *Keeper) Expiry() time.Time {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if k.state.empty() {
		return time.Time{}
	}
	return k.state.leaf.Leaf.NotAfter
}

// Ready returns nil while a review can be served: there is a pair, it is valid,
// and API servers have been told to trust it.
func (k *Keeper) Ready() error {
	k.mu.RLock()
	defer k.mu.RUnlock()
	switch {
	case k.state.empty():
		return errors.Join(errors.New("no webhook certificate yet"), k.failed)
	case k.now().After(k.state.leaf.Leaf.NotAfter):
		return errors.Join(fmt.Errorf("webhook certificate expired at %s", k.state.leaf.Leaf.NotAfter.Format(time.RFC3339)), k.failed)
	case k.looked.IsZero():
		return errors.Join(errors.New("certificate authority not published yet"), k.failed)
	}
	return nil
}

// Alive returns nil while the Keeper does its work: it has looked within ten
// intervals, successfully or not being able to.
func (k *Keeper) Alive() error {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if k.failed == nil && !k.looked.IsZero() && k.now().Sub(k.looked) > 10*k.interval {
		return fmt.Errorf("webhook certificate not looked after since %s", k.looked.Format(time.RFC3339))
	}
	return nil
}
