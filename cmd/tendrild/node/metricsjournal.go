package node

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tendril-cni/tendril/cni/journal"
	"github.com/tendril-cni/tendril/ipam"
)

var (
	heldDesc     = prometheus.NewDesc("tendril_held", "What the node's journal holds for pods: attachments, devices, addresses.", []string{"what"}, nil)
	attachedDesc = prometheus.NewDesc("tendril_attachments", "Attachments by network, kind and phase (intent, plugging, repairing, attached).", []string{"network", "kind", "phase"}, nil)
	usedDesc     = prometheus.NewDesc("tendril_network_addresses", "Addresses that attachments of this node have, by network, whoever gave them.", []string{"network"}, nil)
	copyLagDesc  = prometheus.NewDesc("tendril_journal_copy_lag_seconds", "For how long the journal's copy on disk has lacked a commit; 0 while it has all.", nil, nil)
)

// readJournal counts what the journal holds for pods.
func (d *daemon) readJournal(_ context.Context, to sink) error {
	to.gauge(copyLagDesc, d.journal.CopyLag().Seconds())
	return d.journal.View(func(tx *journal.Tx) error {
		to.gauge(heldDesc, float64(len(tx.All())), "attachments")
		to.gauge(heldDesc, float64(count(tx, journal.Devices, func([]byte) bool { return true })), "devices")
		to.gauge(heldDesc, float64(count(tx, journal.Addresses, ipam.Held)), "addresses")
		return nil
	})
}

// readAttachments counts what pods have.
func (d *daemon) readAttachments(_ context.Context, to sink) error {
	records, err := d.records()
	if err != nil {
		return err
	}
	type group struct{ network, kind, phase string }
	attachments, addresses := map[group]int{}, map[string]int{}
	for _, r := range records {
		a := r.Attachment
		attachments[group{a.Network, a.Kind, string(r.Phase)}]++
		addresses[a.Network] += len(addressesOf(r))
	}
	for g, n := range attachments {
		to.gauge(attachedDesc, float64(n), g.network, g.kind, g.phase)
	}
	for network, n := range addresses {
		to.gauge(usedDesc, float64(n), network)
	}
	return nil
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
