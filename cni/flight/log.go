package flight

import (
	"context"
	"log/slog"

	"github.com/tendril-cni/tendril/cni"
)

// Handler returns h with one attribute more on every line that is logged with the
// context of a call: call, its id (cni.CallID).
func Handler(h slog.Handler) slog.Handler { return handler{h} }

type handler struct{ slog.Handler }

// Handle implements slog.Handler.
func (h handler) Handle(ctx context.Context, r slog.Record) error {
	if id := cni.CallID(ctx); id != "" {
		r = r.Clone()
		r.AddAttrs(slog.String("call", id))
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return handler{h.Handler.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (h handler) WithGroup(name string) slog.Handler { return handler{h.Handler.WithGroup(name)} }
