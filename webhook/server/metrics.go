package server

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are the numbers about reviews.
type Metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
}

// NewMetrics registers the numbers about reviews with reg: how many and how long
// (seconds), by webhook; and, from expiry, when the certificate ends (seconds
// since 1970, 0 before there is one).
func NewMetrics(reg prometheus.Registerer, expiry func() time.Time) *Metrics {
	m := &Metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tendril_webhook_requests_total", Help: "Reviews by webhook, decision and HTTP status.",
		}, []string{"webhook", "decision", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "tendril_webhook_duration_seconds", Help: "Time from the first byte of a review to its response.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .02, .05, .1, .25, 1, 5},
		}, []string{"webhook"}),
	}
	end := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tendril_webhook_cert_expiry_seconds", Help: "When the serving certificate ends, in seconds since 1970.",
	}, func() float64 {
		if t := expiry(); !t.IsZero() {
			return float64(t.Unix())
		}
		return 0
	})
	reg.MustRegister(m.requests, m.duration, end)
	return m
}

func (m *Metrics) count(webhook, decision string, status int, start time.Time) {
	m.requests.WithLabelValues(webhook, decision, strconv.Itoa(status)).Inc()
	m.duration.WithLabelValues(webhook).Observe(time.Since(start).Seconds())
}
