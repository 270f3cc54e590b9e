package kube

import (
	"slices"
	"sync"

	"k8s.io/client-go/tools/cache"
)

// The kinds of object that are waited for.
const (
	podKind        = "pod"
	definitionKind = "network attachment definition"
)

// wakes has those who wait for an object told that it changed.
type wakes struct {
	// mu guards waiting.
	mu      sync.Mutex
	waiting map[string][]chan struct{}
}

// on returns a channel that gets a value after each change of the object, and
// what ends that. Changes that come faster than they are read become one.
func (w *wakes) on(kind, key string) (changed <-chan struct{}, done func()) {
	c := make(chan struct{}, 1)
	key = kind + " " + key
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting[key] = append(w.waiting[key], c)
	return c, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		left := slices.DeleteFunc(w.waiting[key], func(x chan struct{}) bool { return x == c })
		if w.waiting[key] = left; len(left) == 0 {
			delete(w.waiting, key)
		}
	}
}

// handler is called by an informer after its store was changed.
func (w *wakes) handler(kind string) cache.ResourceEventHandler {
	tell := func(object any) {
		key, err := cache.DeletionHandlingMetaNamespaceKeyFunc(object)
		if err != nil {
			return // of no object that could be waited for
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, c := range w.waiting[kind+" "+key] {
			select {
			case c <- struct{}{}:
			default:
			}
		}
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    tell,
		UpdateFunc: func(_, object any) { tell(object) },
		DeleteFunc: tell,
	}
}
