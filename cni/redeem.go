package cni

import (
	"context"
	"errors"
)

// Redeem does a DEL for which no runtime waits any more: one that was answered
// while the daemon was away, or that nobody will ever send. It is Del, but says so
// (NeedsRuntime) when something is left that only a plugin executable can undo
// and r.Run is nil; what needs none is done by then.
func (e *Engine) Redeem(ctx context.Context, r Request) error {
	if r.Run == nil {
		records, err := e.records(r.ContainerID, r.IfName)
		if err != nil {
			return err
		}
		if len(records) == 0 && !e.gone.has(r.ContainerID) && e.owed(ctx, r) {
			return errNoRunner
		}
	}
	return e.Del(ctx, r)
}

// owed reports whether plugins may have attached a container that the journal does
// not know. What cannot be told is owed.
func (e *Engine) owed(ctx context.Context, r Request) bool {
	c, err := e.primary(ctx)
	if err != nil {
		return true
	}
	_, owed, err := e.unknown(r, c)
	return owed || err != nil
}

// NeedsRuntime reports whether err, of Redeem, Plug or Audit, says that a plugin
// executable has to run and there was no runtime in whose place it could.
func NeedsRuntime(err error) bool { return errors.Is(err, errNoRunner) }
