package cni

import "sync"

// recentSize bounds the memory of recent: more sandboxes than a node deletes
// between a DEL and its repetition.
const recentSize = 1024

// recent remembers the containers that were detached last, so that a repeated
// DEL costs nothing. Forgetting one is harmless: DEL is idempotent.
type recent struct {
	mu    sync.Mutex // guards all
	ids   map[string]bool
	order [recentSize]string
	next  int
}

func (r *recent) add(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ids == nil {
		r.ids = map[string]bool{}
	}
	if r.ids[id] {
		return
	}
	delete(r.ids, r.order[r.next])
	r.order[r.next], r.ids[id] = id, true
	r.next = (r.next + 1) % recentSize
}

func (r *recent) has(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ids[id]
}
