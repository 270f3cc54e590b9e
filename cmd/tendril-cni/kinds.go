package main

import (
	"log/slog"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/bond"
	"github.com/tendril-cni/tendril/cni/bridge"
	"github.com/tendril-cni/tendril/cni/hostdevice"
	"github.com/tendril-cni/tendril/cni/ipvlan"
	"github.com/tendril-cni/tendril/cni/macvlan"
	"github.com/tendril-cni/tendril/cni/sbr"
	"github.com/tendril-cni/tendril/cni/sriov"
	"github.com/tendril-cni/tendril/cni/tuning"
	"github.com/tendril-cni/tendril/cni/vlan"
	"github.com/tendril-cni/tendril/cni/vrf"
	"github.com/tendril-cni/tendril/vf/sysfs"
)

// oldest is the first version of the specification; vrf starts later, as the
// reference does.
const oldest, oldestVRF = "0.1.0", "0.3.1"

// plugins is every name that the executable answers to.
func plugins(log *slog.Logger) map[string]plugin {
	br := bridge.New(log)
	drivers := map[string]driver{
		"sriov":       {kind: "sriov", Driver: sriov.New(sysfs.New("/sys"), log), hold: true},
		"macvlan":     {kind: "macvlan", Driver: macvlan.New(log), chained: true, probe: true},
		"ipvlan":      {kind: "ipvlan", Driver: ipvlan.New(log), chained: true, probe: true},
		"vlan":        {kind: "vlan", Driver: vlan.New(log), probe: true},
		"bridge":      {kind: "bridge", Driver: br, complete: br.Completed, host: br.HostLinks, ipamDNS: true, probe: true},
		"host-device": {kind: "host-device", Driver: hostdevice.New(log), hold: true},
		"bond":        {kind: "bond", Driver: bond.New(log)},
	}
	out := map[string]plugin{"static": static(), "host-local": hostLocal()}
	for name, d := range drivers {
		out[name] = d.plugin()
	}
	for name, m := range map[string]cni.Modifier{"tuning": tuning.New(tuning.DefaultAllowlist, log), "sbr": sbr.New(log), "vrf": vrf.New(log)} {
		since := oldest
		if name == "vrf" {
			since = oldestVRF
		}
		out[name] = chained{kind: name, Modifier: m}.plugin(since)
	}
	return out
}
