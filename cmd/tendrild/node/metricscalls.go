package node

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/flight"
)

// counts are the numbers that are counted as things happen. The zero pointer
// counts nothing.
type counts struct {
	requests, calls, stepErrors, spooled *prometheus.CounterVec
	duration, steps                      *prometheus.HistogramVec
	waiting                              prometheus.Gauge
	singleHomed                          prometheus.Gauge
}

// buckets of everything that lies on the way of a pod's start: from what a cache
// answers to the kubelet's patience.
var buckets = []float64{.0002, .0005, .001, .002, .005, .01, .025, .05, .1, .25, 1, 5, 30}

func newCounts() *counts {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	histogram := func(name, help string, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	return &counts{
		requests:    counter("tendril_cni_requests_total", "Calls of the container runtime by CNI command and error code of the specification; 0 is success.", "command", "code"),
		duration:    histogram("tendril_cni_duration_seconds", "Time from a call's request to its answer.", "command"),
		waiting:     gauge("tendril_cni_requests_running", "Calls of the container runtime that have no answer yet."),
		calls:       counter("tendril_calls_total", "Calls that attach, detach or check, whoever made them, by verb (a CNI command, PLUG, REPAIR, RECOVER) and result (ok, failed).", "verb", "result"),
		steps:       histogram("tendril_step_duration_seconds", "Time of one step of a call; kind is the attachment's, empty for a step of the whole call.", "verb", "step", "kind"),
		stepErrors:  counter("tendril_step_errors_total", "Steps that ended with an error.", "verb", "step", "kind"),
		spooled:     counter("tendril_spool_replays_total", "DELs of the spool that were tried, by result (ok, failed, waiting for a call of the runtime).", "result"),
		singleHomed: gauge("tendril_single_homed_pods", "Pods that ask for networks and run without any, since the runtime started them without calling Tendril."),
	}
}

func (c *counts) collectors() []prometheus.Collector {
	return []prometheus.Collector{c.requests, c.duration, c.waiting, c.calls, c.steps, c.stepErrors, c.spooled, c.singleHomed}
}

// begin counts a call of the runtime; the function that it returns ends it.
func (c *counts) begin(command string) (end func(code uint)) {
	if c == nil {
		return func(uint) {}
	}
	if !commands[command] {
		command = "other" // whoever speaks to the socket does not choose our series
	}
	start := time.Now()
	c.waiting.Inc()
	return func(code uint) {
		c.waiting.Dec()
		c.requests.WithLabelValues(command, strconv.FormatUint(uint64(code), 10)).Inc()
		c.duration.WithLabelValues(command).Observe(time.Since(start).Seconds())
	}
}

var commands = map[string]bool{"ADD": true, "DEL": true, "CHECK": true, "STATUS": true, "GC": true}

// flown counts a call and its steps.
func (c *counts) flown(t *flight.Trace) {
	c.calls.WithLabelValues(t.Verb, result(t.Error != "")).Inc()
	for i := range t.Steps {
		s := &t.Steps[i]
		c.steps.WithLabelValues(t.Verb, s.Name, s.Kind).Observe(s.Took.Seconds())
		if s.Error != "" {
			c.stepErrors.WithLabelValues(t.Verb, s.Name, s.Kind).Inc()
		}
	}
}

// redeemed counts a try of a spooled DEL.
func (c *counts) redeemed(err error) {
	switch {
	case c == nil:
	case cni.NeedsRuntime(err):
		c.spooled.WithLabelValues("waiting").Inc()
	default:
		c.spooled.WithLabelValues(result(err != nil)).Inc()
	}
}

func result(failed bool) string {
	if failed {
		return "failed"
	}
	return "ok"
}
