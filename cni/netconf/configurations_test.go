package netconf_test

import (
	"errors"
	"testing"

	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/cni/refusal"
)

// FuzzAddedFields: whatever a definition says, what the daemon adds to it for a pod
// leaves it readable, and is read.
func FuzzAddedFields(f *testing.F) {
	f.Add([]byte(`{"type":"sriov","min_tx_rate":5,"runtimeConfig":{"mac":7}}`))
	f.Add([]byte(`{"name":"x","plugins":[{"type":"vlan"},{"type":"tuning","runtimeConfig":{"x":1},"args":{"cni":{"sysctl":{"a":"b"}}}}]}`))
	f.Add([]byte(`{"name":"x","plugins":[{"type":"macvlan","RUNTIMECONFIG":[]},{"type":"tuning","runtimeconfig":null}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		n, err := netconf.ParseNetwork("definition", data, "fuzz")
		if err != nil {
			return
		}
		n = netconf.WithBandwidth(netconf.WithMAC(n, "02:00:00:00:00:01"), []byte(`{"egressRate":9000000}`))
		if n.Native() && n.Plugins[0].Type == "sriov" {
			if conf, err := netconf.ParseSriov(n.Plugins[0]); err == nil && (conf.MaxTxRate == nil || *conf.MaxTxRate != 9) {
				t.Errorf("the VF's rate is %v", conf.MaxTxRate)
			}
		}
		again, err := netconf.List(n)
		if err == nil {
			_, err = netconf.ParseNetwork("definition", again, "fuzz")
		}
		if err != nil {
			t.Errorf("what the daemon passes on is not read: %v", err)
		}
	})
}

func TestInvariant9WhatNoVFCanDo(t *testing.T) {
	for conf, field := range map[string]string{
		`{"type":"sriov","vlanTrunk":[{"id":1}]}`:                                                     "vlanTrunk",
		`{"type":"sriov","runtimeConfig":{"bandwidth":{"ingressRate":1}}}`:                            "runtimeConfig.bandwidth.ingressRate",
		`{"type":"sriov","min_tx_rate":5,"runtimeConfig":{"bandwidth":{"egressRate":1}}}`:             "runtimeConfig.bandwidth.egressRate",
		`{"type":"sriov","runtimeConfig":{"bandwidth":{"egressRate":-1}}}`:                            "runtimeConfig.bandwidth.egressRate",
		`{"type":"sriov","max_tx_rate":5,"runtimeConfig":{"bandwidth":{"egressRate":"a lot of it"}}}`: "runtimeConfig.bandwidth.egressRate",
	} {
		var r *refusal.Refusal
		if _, err := netconf.ParseSriov(parse(t, conf).Plugins[0]); !errors.As(err, &r) || r.Field != field || r.Allowed == "" {
			t.Errorf("%s: %v, want a refusal of %s", conf, err, field)
		}
	}
}
