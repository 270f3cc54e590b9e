package node

import (
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tendril-cni/tendril/cni/journal"
	"github.com/tendril-cni/tendril/ipam"
)

// addressUse tells what the node has of each address space of the cluster, from
// the journal itself.
type addressUse struct {
	journal           *journal.Journal
	log               *slog.Logger
	addresses, blocks *prometheus.Desc
}

func newAddressUse(j *journal.Journal, log *slog.Logger) addressUse {
	return addressUse{j, log,
		prometheus.NewDesc("tendril_addresses", "Addresses of the cluster that are this node's: held by pods, idle, cooling down after a pod, away (on the way back or set aside).", []string{"space", "state"}, nil),
		prometheus.NewDesc("tendril_address_blocks", "Blocks in which the node has addresses, and those that the API server has to be asked about.", []string{"space", "state"}, nil),
	}
}

// Describe implements prometheus.Collector.
func (u addressUse) Describe(c chan<- *prometheus.Desc) { c <- u.addresses; c <- u.blocks }

// Collect implements prometheus.Collector.
func (u addressUse) Collect(c chan<- prometheus.Metric) {
	var usage []ipam.Usage
	err := ledger{u.journal}.View(func(s ipam.Store) error {
		l := ipam.NewLedger(s)
		usage = l.Usage()
		return l.Err()
	})
	if err != nil {
		u.log.Warn("metrics without the ledger of addresses", "error", err)
		return
	}
	for _, s := range usage {
		for state, n := range map[string]int{"held": s.Held, "idle": s.Idle, "cooling": s.Cooling, "away": s.Away} {
			c <- prometheus.MustNewConstMetric(u.addresses, prometheus.GaugeValue, float64(n), s.Space, state)
		}
		c <- prometheus.MustNewConstMetric(u.blocks, prometheus.GaugeValue, float64(s.Cells), s.Space, "all")
		c <- prometheus.MustNewConstMetric(u.blocks, prometheus.GaugeValue, float64(s.Unsettled), s.Space, "unsettled")
	}
}
