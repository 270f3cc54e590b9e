package main

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tendril-cni/tendril/cmd/apicalls"
	"github.com/tendril-cni/tendril/cmd/tendril-controller/addresses"
	"github.com/tendril-cni/tendril/tests/observability"
	"github.com/tendril-cni/tendril/webhook/server"
)

func TestEveryMetricIsDocumented(t *testing.T) {
	reg := prometheus.NewRegistry()
	server.NewMetrics(reg, func() time.Time { return time.Time{} })
	reg.MustRegister(addresses.NewRanges())
	reg.MustRegister(apicalls.Collectors()...)
	reg.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: "tendril_build_info", ConstLabels: prometheus.Labels{"version": "v"}})) // of package admission
	observability.Compare(t, observability.Controller, reg)
}
