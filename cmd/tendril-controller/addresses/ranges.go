package addresses

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/ipam"
	"github.com/tendril-cni/tendril/ipam/forecast"
	"github.com/tendril-cni/tendril/ipam/v1alpha1"
)

var definitionsResource = schema.GroupVersionResource{Group: "k8s.cni.cncf.io", Version: "v1", Resource: "network-attachment-definitions"}

// Ranges are the ranges of all definitions, and how full they were in the last
// round. It is a prometheus.Collector; on a replica that is not at work it has
// nothing to tell. Use NewRanges.
type Ranges struct {
	tally  *forecast.Tally // of the round under way, nil where its definitions are not known
	trends map[string]*forecast.Trend

	mu   sync.Mutex // guards last
	last []measured

	addresses, capacity, full *prometheus.Desc
}

// measured is one range in one round.
type measured struct {
	forecast.Range
	forecast.Use
	fullIn  time.Duration
	filling bool
}

// NewRanges returns Ranges that know none.
func NewRanges() *Ranges {
	labels := []string{"network", "range"}
	return &Ranges{
		addresses: prometheus.NewDesc("tendril_range_addresses", "Addresses of a network's range that are not free: with nodes, with claims, in quarantine.", append(labels, "state"), nil),
		capacity:  prometheus.NewDesc("tendril_range_capacity", "Addresses that a network's range can hand out.", labels, nil),
		full:      prometheus.NewDesc("tendril_range_full_seconds", "In how many seconds no address of the range is free if use goes on as in the last hour; absent where it does not rise.", labels, nil),
	}
}

// begin and end frame the time in which this replica is at work.
func (r *Ranges) begin() { r.trends = map[string]*forecast.Trend{} }

func (r *Ranges) end() { r.set(nil) }

func (r *Ranges) set(last []measured) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = last
}

// read reads the definitions for the round that follows.
func (r *Ranges) read(ctx context.Context, client dynamic.Interface) error {
	r.tally = nil // without definitions nothing is counted, least of all on top of the last round
	var ranges []forecast.Range
	for next := ""; ; {
		page, err := client.Resource(definitionsResource).List(ctx, metav1.ListOptions{Limit: 500, Continue: next})
		if err != nil {
			return fmt.Errorf("list definitions: %w", err)
		}
		for i := range page.Items {
			ranges = append(ranges, rangesOf(&page.Items[i])...)
		}
		if next = page.GetContinue(); next == "" {
			break
		}
	}
	r.tally = forecast.NewTally(ranges)
	return nil
}

// rangesOf are the ranges of a definition whose addresses the cluster shares, which
// are those of its first plugin; what cannot be read has none, and its pods say why.
func rangesOf(u *unstructured.Unstructured) (out []forecast.Range) {
	config, _, _ := unstructured.NestedString(u.Object, "spec", "config")
	n, err := netconf.ParseNetwork(u.GetName(), []byte(config), u.GetName())
	if err != nil {
		return nil
	}
	raw, kind, err := netconf.ParseIPAM(n.Plugins[0])
	if err != nil || kind != ipam.TypeTendril && kind != ipam.TypeWhereabouts {
		return nil
	}
	c, err := ipam.Parse(json.RawMessage(raw))
	if err != nil {
		return nil
	}
	for i, set := range c.Cluster.Sets {
		out = append(out, forecast.Range{Network: u.GetNamespace() + "/" + u.GetName(), Index: i, Space: c.Cluster.Space, Set: set})
	}
	return out
}

// add counts a block.
func (r *Ranges) add(b *v1alpha1.AddressBlock) {
	if r.tally != nil {
		r.tally.Add(b, time.Now())
	}
}

// publish makes what was counted the answer from now on.
func (r *Ranges) publish() {
	if r.tally == nil {
		return
	}
	now := time.Now()
	var last []measured
	trends := map[string]*forecast.Trend{}
	r.tally.Each(func(of forecast.Range, u forecast.Use) {
		key := of.Network + " " + of.Space + " " + of.Set.String()
		if trends[key] = r.trends[key]; trends[key] == nil {
			trends[key] = &forecast.Trend{}
		}
		trends[key].Add(now, u.Taken())
		m := measured{Range: of, Use: u}
		m.fullIn, m.filling = trends[key].Full(u.Capacity)
		last = append(last, m)
	})
	r.trends = trends
	r.set(last)
}

// Describe implements prometheus.Collector.
func (r *Ranges) Describe(c chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{r.addresses, r.capacity, r.full} {
		c <- d
	}
}

// Collect implements prometheus.Collector.
func (r *Ranges) Collect(c chan<- prometheus.Metric) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.last {
		labels := []string{m.Network, strconv.Itoa(m.Index) + " " + m.Set.String()}
		gauge := func(d *prometheus.Desc, v float64, more ...string) {
			c <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, append(labels[:2:2], more...)...)
		}
		gauge(r.addresses, float64(m.Nodes), "nodes")
		gauge(r.addresses, float64(m.Claims), "claims")
		gauge(r.addresses, float64(m.Quarantined), "quarantine")
		gauge(r.capacity, float64(m.Capacity))
		if m.filling {
			gauge(r.full, m.fullIn.Seconds())
		}
	}
}
