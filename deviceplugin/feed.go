package deviceplugin

import "sync/atomic"

// feed hands the newest pool to any number of readers. One goroutine publishes;
// reading is one atomic load.
type feed struct{ now atomic.Pointer[edition] }

// edition is a pool and the signal that a newer one is out.
type edition struct {
	pool  *Pool
	stale chan struct{}
}

func newFeed(p *Pool) *feed {
	f := &feed{}
	f.now.Store(&edition{pool: p, stale: make(chan struct{})})
	return f
}

func (f *feed) publish(p *Pool) {
	old := f.now.Swap(&edition{pool: p, stale: make(chan struct{})})
	close(old.stale)
}
