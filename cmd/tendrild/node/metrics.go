package node

import (
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/tendril-cni/tendril/cni/journal"
	"github.com/tendril-cni/tendril/ipam"
)

// held counts what the journal holds for pods. The numbers are read from the
// journal itself, so they are what a leak would show in.
type held struct {
	journal *journal.Journal
	log     *slog.Logger
	desc    *prometheus.Desc
}

func (d *daemon) metrics() prometheus.Gatherer {
	reg := prometheus.NewRegistry()
	reg.MustRegister(
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		held{d.journal, d.Log, prometheus.NewDesc("tendril_held", "What the node's journal holds for pods: attachments, devices, addresses.", []string{"what"}, nil)},
		d.offer,
		newAddressUse(d.journal, d.Log),
	)
	return reg
}

// Describe implements prometheus.Collector.
func (h held) Describe(c chan<- *prometheus.Desc) { c <- h.desc }

// Collect implements prometheus.Collector.
func (h held) Collect(c chan<- prometheus.Metric) {
	counts := map[string]int{}
	err := h.journal.View(func(tx *journal.Tx) error {
		counts["attachments"] = len(tx.All())
		counts["devices"] = count(tx, journal.Devices, func([]byte) bool { return true })
		counts["addresses"] = count(tx, journal.Addresses, ipam.Held)
		return nil
	})
	if err != nil {
		h.log.Warn("metrics without the journal", "error", err)
		return
	}
	for what, n := range counts {
		c <- prometheus.MustNewConstMetric(h.desc, prometheus.GaugeValue, float64(n), what)
	}
}

func count(tx *journal.Tx, bucket string, counts func(key []byte) bool) (n int) {
	_ = tx.Bucket(bucket).ForEach(func(k, _ []byte) error {
		if counts(k) {
			n++
		}
		return nil
	})
	return n
}
