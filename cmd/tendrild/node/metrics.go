package node

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/tendril-cni/tendril/cmd/apicalls"
)

// scrapeTime bounds what one scrape may ask of the kernel and the kubelet.
const scrapeTime = 5 * time.Second

// metrics registers all numbers of the daemon; docs/observability.md lists them.
func (d *daemon) metrics() *prometheus.Registry {
	reg := prometheus.NewRegistry()
	build := prometheus.NewGauge(prometheus.GaugeOpts{Name: "tendril_build_info", Help: "1, with the version.", ConstLabels: prometheus.Labels{"version": d.Version}})
	build.Set(1)
	reg.MustRegister(build, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), d.offer, newAddressUse(d.journal, d.Log), d.readings())
	reg.MustRegister(d.counts.collectors()...)
	reg.MustRegister(apicalls.Collectors()...)
	return reg
}

// readings are the numbers that are read when they are asked for: from the
// journal, the kernel and the kubelet, so that a leak shows in them.
type readings struct {
	parts []part
	log   *slog.Logger
}

// part is a source of readings that fails as a whole, and then leaves out what it
// could not read.
type part struct {
	name  string
	descs []*prometheus.Desc
	read  func(context.Context, sink) error
}

func (d *daemon) readings() readings {
	return readings{log: d.Log, parts: []part{
		{"journal", []*prometheus.Desc{heldDesc, copyLagDesc}, d.readJournal},
		{"attachments", []*prometheus.Desc{attachedDesc, usedDesc}, d.readAttachments},
		{"upkeep", []*prometheus.Desc{readyDesc, spoolDesc, cacheAgeDesc, backlogDesc, droppedDesc}, d.readUpkeep},
		{"vfs", vfDescs(), d.readVFs},
		{"kubelet", []*prometheus.Desc{podDeviceDesc}, d.readKubelet},
	}}
}

var failedDesc = prometheus.NewDesc("tendril_scrape_failed", "1 where a source of these metrics could not be read, and its metrics are missing or incomplete.", []string{"source"}, nil)

// Describe implements prometheus.Collector.
func (r readings) Describe(c chan<- *prometheus.Desc) {
	c <- failedDesc
	for _, p := range r.parts {
		for _, d := range p.descs {
			c <- d
		}
	}
}

// Collect implements prometheus.Collector.
func (r readings) Collect(c chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTime)
	defer cancel()
	to := sink{c}
	for _, p := range r.parts {
		failed := 0.0
		if err := p.read(ctx, to); err != nil {
			failed = 1
			r.log.Debug("metrics without a source", "source", p.name, "error", err)
		}
		to.gauge(failedDesc, failed, p.name)
	}
}

// sink takes the numbers of one scrape.
type sink struct{ c chan<- prometheus.Metric }

func (s sink) gauge(d *prometheus.Desc, v float64, labels ...string) {
	s.c <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func (s sink) counter(d *prometheus.Desc, v float64, labels ...string) {
	s.c <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
}
