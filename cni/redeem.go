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
		if len(records) == 0 && !e.gone.has(r.ContainerID) && !e.nativeDefault(ctx) {
			// A container that was started before Tendril: its default network is
			// the plugins' business.
			return errNoRunner
		}
	}
	return e.Del(ctx, r)
}

// nativeDefault says whether the default network is known to be served without
// plugins.
func (e *Engine) nativeDefault(ctx context.Context) bool {
	c, err := e.primary(ctx)
	if err != nil {
		return false
	}
	n, err := c.network()
	return err == nil && primaryNative(n)
}

// NeedsRuntime reports whether err, of Redeem, Plug or Audit, says that a plugin
// executable has to run and there was no runtime in whose place it could.
func NeedsRuntime(err error) bool { return errors.Is(err, errNoRunner) }
