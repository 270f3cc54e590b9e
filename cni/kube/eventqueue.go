package kube

import (
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
)

const (
	// mostEvents may wait. What comes beyond is dropped and logged: events are
	// for people, and nobody reads a thousand.
	mostEvents = 1000
	// calm is for how long there was no status before an event that is no warning
	// is written, and mostCalm how long such an event waits for that. In a
	// burst of pods the API server has one write each to do, not two.
	calm     = 250 * time.Millisecond
	mostCalm = 5 * time.Second
)

// eventQueue has the events that wait to be written: warnings for their turn, the
// others, which tell what a pod's status says too, until the statuses are through.
type eventQueue struct {
	mu sync.Mutex
	// warnings and news are in the order in which they came.
	warnings, news []*corev1.Event
	// status is when a status was last given.
	status time.Time
	// dropped counts events for which there was no room.
	dropped uint64
	// changed has an element when something was put since it was last read.
	changed chan struct{}
}

func newEventQueue() *eventQueue { return &eventQueue{changed: make(chan struct{}, 1)} }

// put reports whether there was room for event.
func (q *eventQueue) put(event *corev1.Event) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.warnings)+len(q.news) >= mostEvents {
		q.dropped++
		return false
	}
	if event.Type == corev1.EventTypeWarning {
		q.warnings = append(q.warnings, event)
	} else {
		q.news = append(q.news, event)
	}
	select {
	case q.changed <- struct{}{}:
	default:
	}
	return true
}

// busy says that a status was given now.
func (q *eventQueue) busy(now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.status = now
}

// take removes the event whose turn it is at now, at the end any. Without one it
// returns how long that will be, less than nothing where none waits.
func (q *eventQueue) take(now time.Time, end bool) (*corev1.Event, time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case len(q.warnings) > 0:
		return pop(&q.warnings), 0
	case len(q.news) == 0:
		return nil, -1
	}
	wait := min(q.status.Add(calm).Sub(now), q.news[0].FirstTimestamp.Add(mostCalm).Sub(now))
	if wait > 0 && !end {
		return nil, wait
	}
	return pop(&q.news), 0
}

func pop(list *[]*corev1.Event) *corev1.Event {
	first := (*list)[0]
	(*list)[0] = nil
	*list = (*list)[1:]
	return first
}

// backlog returns how many events wait and how many were dropped.
func (q *eventQueue) backlog() (waiting int, dropped uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.warnings) + len(q.news), q.dropped
}
