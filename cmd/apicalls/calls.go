package apicalls

import (
	"context"
	"net/url"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/tools/metrics"
)

var (
	requests = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "tendril_api_requests_total", Help: "Requests to the API server by HTTP method and status; <error> for none.",
	}, []string{"method", "code"})
	duration = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "tendril_api_request_duration_seconds", Help: "Time until the API server answered, without watches.",
		Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 15},
	}, []string{"method"})
	held = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "tendril_api_throttled_seconds", Help: "Time that requests waited for this client's own limit.",
		Buckets: []float64{.005, .1, 1, 5, 30},
	}, []string{"method"})
)

// listen makes client-go tell its numbers, which it takes one listener for.
var listen = sync.OnceFunc(func() {
	metrics.Register(metrics.RegisterOpts{RequestResult: result{}, RequestLatency: latency{duration}, RateLimiterLatency: latency{held}})
})

// Collectors returns the numbers, for any registry.
func Collectors() []prometheus.Collector {
	listen()
	return []prometheus.Collector{requests, duration, held}
}

type result struct{}

// Increment implements metrics.ResultMetric.
func (result) Increment(_ context.Context, code, method, _ string) {
	requests.WithLabelValues(method, code).Inc()
}

type latency struct{ to *prometheus.HistogramVec }

// Observe implements metrics.LatencyMetric.
func (l latency) Observe(_ context.Context, method string, _ url.URL, took time.Duration) {
	l.to.WithLabelValues(method).Observe(took.Seconds())
}
