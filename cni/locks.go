package cni

import (
	"context"
	"fmt"
	"sync"
)

// locks serialises calls by container.
type locks struct {
	mu   sync.Mutex // guards held
	held map[string]*turn
}

// turn is one container's lock: a token in a channel, so that waiting ends with
// the caller's deadline.
type turn struct {
	token   chan struct{}
	waiters int
}

// take waits for the container's turn and returns the function that ends it.
func (l *locks) take(ctx context.Context, container string) (func(), error) {
	l.mu.Lock()
	if l.held == nil {
		l.held = map[string]*turn{}
	}
	t := l.held[container]
	if t == nil {
		t = &turn{token: make(chan struct{}, 1)}
		l.held[container] = t
	}
	t.waiters++
	l.mu.Unlock()
	select {
	case t.token <- struct{}{}:
		return func() { <-t.token; l.leave(container, t) }, nil
	case <-ctx.Done():
		l.leave(container, t)
		return nil, fmt.Errorf("wait for an earlier call on container %s: %w", container, ctx.Err())
	}
}

func (l *locks) leave(container string, t *turn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t.waiters--; t.waiters == 0 {
		delete(l.held, container)
	}
}
