package kube

import (
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/watch"
)

// heard is when the API server said something about a kind last, be it that
// nothing has changed: it sends a bookmark about once a minute.
type heard struct{ nanos atomic.Int64 }

func (h *heard) now() { h.nanos.Store(time.Now().UnixNano()) }

// of notes a list, and returns its error.
func (h *heard) of(err error) error {
	if err == nil {
		h.now()
	}
	return err
}

// watch notes every event of a watch.
func (h *heard) watch(w watch.Interface, err error) (watch.Interface, error) {
	if h.of(err) != nil {
		return w, err
	}
	return watch.Filter(w, func(e watch.Event) (watch.Event, bool) {
		if e.Type != watch.Error {
			h.now()
		}
		return e, true
	}), nil
}

// Ages says for how long the API server has not been heard of, by what is watched
// (pods, definitions): how old the cache's view may be. It is about a minute at
// most while all is well. What was never heard of is not in it.
func (c *Cache) Ages() map[string]time.Duration {
	ages := map[string]time.Duration{}
	for what, h := range map[string]*heard{"pods": &c.heardPods, "definitions": &c.heardDefinitions} {
		if at := h.nanos.Load(); at != 0 {
			ages[what] = time.Since(time.Unix(0, at))
		}
	}
	return ages
}
