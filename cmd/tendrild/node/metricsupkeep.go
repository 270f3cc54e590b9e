package node

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	readyDesc    = prometheus.NewDesc("tendril_ready", "1 while an ADD would be served, as far as the daemon itself can tell (/readyz).", nil, nil)
	spoolDesc    = prometheus.NewDesc("tendril_spool_entries", "DELs that came while no daemon listened, or that no runtime will send, and that are not done yet.", nil, nil)
	cacheAgeDesc = prometheus.NewDesc("tendril_cache_age_seconds", "For how long the API server has not been heard of, by what is watched; it speaks about once a minute.", []string{"cache"}, nil)
	backlogDesc  = prometheus.NewDesc("tendril_reports_waiting", "Network statuses and events that wait to be written to the API server.", []string{"kind"}, nil)
	droppedDesc  = prometheus.NewDesc("tendril_events_dropped_total", "Events that were given up because too many waited.", nil, nil)
)

// readUpkeep tells what is owed, and how well the API server is reached.
func (d *daemon) readUpkeep(ctx context.Context, to sink) error {
	to.gauge(readyDesc, float64(btoi(d.engine.Status(ctx) == nil)))
	to.gauge(spoolDesc, float64(entries(d.spoolDir())))
	if d.cache == nil {
		return nil
	}
	for cache, age := range d.cache.Ages() {
		to.gauge(cacheAgeDesc, age.Seconds(), cache)
	}
	waiting := d.reporter.Backlog()
	to.gauge(backlogDesc, float64(waiting.Statuses), "status")
	to.gauge(backlogDesc, float64(waiting.Events), "event")
	to.counter(droppedDesc, float64(waiting.Dropped))
	return nil
}
