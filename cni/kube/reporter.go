package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/workqueue"

	"github.com/tendril-cni/tendril/cni"
)

const (
	// writers is how many statuses are written at a time: a request that hangs
	// holds up the status of one pod, not of all.
	writers = 4
	// requestTime bounds one request.
	requestTime = 15 * time.Second
	// drainTime is how long Run goes on after its end to write what is left.
	drainTime = 3 * time.Second
	// The pauses before a status is tried again.
	firstPause = 100 * time.Millisecond
	lastPause  = 30 * time.Second
)

// Reporter writes what became of a pod's networks to the API server. It
// implements cni.Reporter; its methods may be called before Run, and nothing is
// sent before that. Use NewReporter.
type Reporter struct {
	pods  metadata.Getter
	cache *Cache
	log   *slog.Logger
	node  string
	// noAdded is Options.NoAdded.
	noAdded bool

	queue workqueue.TypedRateLimitingInterface[cni.PodRef]
	// mu guards pending.
	mu sync.Mutex
	// pending has the status to be written for each pod in queue.
	pending map[cni.PodRef]string

	sink   sink
	events *eventQueue
}

// Backlog is what a Reporter has not got rid of.
type Backlog struct {
	// Statuses of pods and Events that wait to be written.
	Statuses, Events int
	// Dropped is how many events were given up since the start, because too many
	// waited.
	Dropped uint64
}

// Backlog returns what waits now.
func (r *Reporter) Backlog() Backlog {
	r.mu.Lock()
	defer r.mu.Unlock()
	events, dropped := r.events.backlog()
	return Backlog{Statuses: len(r.pending), Events: events, Dropped: dropped}
}

var _ cni.Reporter = (*Reporter)(nil)

// NewReporter returns a Reporter for the pods of node, which cache knows.
func NewReporter(config *rest.Config, node string, cache *Cache, o Options, log *slog.Logger) (*Reporter, error) {
	config = o.withDefaults().limit(config)
	pods, err := metadata.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make client for pods: %w", err)
	}
	events, err := newSink(config)
	if err != nil {
		return nil, fmt.Errorf("make client for events: %w", err)
	}
	return &Reporter{
		pods: pods.Resource(podsResource), cache: cache, log: log, node: node, noAdded: o.NoAdded,
		queue:   workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[cni.PodRef](firstPause, lastPause)),
		pending: map[cni.PodRef]string{},
		sink:    events,
		events:  newEventQueue(),
	}, nil
}

// Run writes what is reported until ctx ends, then what is left and can be
// written at once within three seconds, and returns nil. It may be called once.
func (r *Reporter) Run(ctx context.Context) error {
	// Requests outlive ctx by drainTime.
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		r.queue.ShutDown() // workers go on until the queue is empty
		select {
		case <-time.After(drainTime):
			cancel()
		case <-work.Done():
		}
	})
	defer stop()
	var group sync.WaitGroup
	for range writers {
		group.Go(func() { r.writeStatuses(work) })
	}
	group.Go(func() { r.writeEvents(ctx, work) })
	group.Wait()
	return nil
}

// Publish has status written to pod, in place of any that was not written yet.
func (r *Reporter) Publish(pod cni.PodRef, status []cni.NetworkStatus) {
	text, err := encodeStatus(status)
	if err != nil {
		r.log.Error("status not written", "pod", pod, "error", err)
		return
	}
	r.mu.Lock()
	r.pending[pod] = text
	r.mu.Unlock()
	r.events.busy(time.Now())
	r.queue.Add(pod)
}

func (r *Reporter) writeStatuses(ctx context.Context) {
	for {
		pod, shutdown := r.queue.Get()
		if shutdown {
			return
		}
		r.writeStatus(ctx, pod)
		r.queue.Done(pod)
	}
}

// writeStatus writes what is pending for pod, or arranges for another try.
func (r *Reporter) writeStatus(ctx context.Context, pod cni.PodRef) {
	r.mu.Lock()
	text, ok := r.pending[pod]
	delete(r.pending, pod)
	r.mu.Unlock()
	if !ok {
		return
	}
	err := r.patch(ctx, pod, text)
	if err == nil || errors.Is(err, errPodGone) {
		r.queue.Forget(pod)
		return
	}
	r.log.Warn("status not written yet", "pod", pod, "tries", r.queue.NumRequeues(pod)+1, "error", err)
	r.mu.Lock()
	if _, newer := r.pending[pod]; !newer {
		r.pending[pod] = text
	}
	r.mu.Unlock()
	r.queue.AddRateLimited(pod)
}
