package main

import "github.com/tendril-cni/tendril/tests/bench/host"

const (
	ifName = bareName
	// node is the name of this machine's Node object.
	node = "bench"
	// The two sides have a subnet each: they share a wire.
	oursSubnet      = "10.61.0.0/16"
	referenceSubnet = "10.62.0.0/16"
	severalSubnet   = "10.63.0.0/16"
)

// macvlanConf is the network of both sides, but for the subnet. The reference
// keeps its addresses on the tmpfs, where it is fastest.
func macvlanConf(subnet string) map[string]any {
	return map[string]any{
		"type": "macvlan", "master": master, "mode": "bridge",
		"ipam": map[string]any{
			"type": "host-local", "dataDir": "/run/host-local",
			"ranges": [][]map[string]string{{{"subnet": subnet}}},
			"routes": []map[string]string{{"dst": "0.0.0.0/0"}},
		},
	}
}

// named adds what libcni adds to a plugin's configuration.
func named(conf map[string]any) map[string]any {
	conf["name"], conf["cniVersion"] = "reference", host.CNIVersion
	return conf
}
