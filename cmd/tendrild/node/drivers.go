package node

import (
	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/bond"
	"github.com/tendril-cni/tendril/cni/bridge"
	"github.com/tendril-cni/tendril/cni/hostdevice"
	"github.com/tendril-cni/tendril/cni/ipvlan"
	"github.com/tendril-cni/tendril/cni/macvlan"
	"github.com/tendril-cni/tendril/cni/sbr"
	"github.com/tendril-cni/tendril/cni/tuning"
	"github.com/tendril-cni/tendril/cni/vlan"
	"github.com/tendril-cni/tendril/cni/vrf"
)

// drivers makes the interfaces, by the type of the plugin.
func (d *daemon) drivers() map[string]cni.Driver {
	return map[string]cni.Driver{
		cni.KindSriov:      d.vfs.driver,
		cni.KindMacvlan:    macvlan.New(d.Log),
		cni.KindIpvlan:     ipvlan.New(d.Log),
		cni.KindVlan:       vlan.New(d.Log),
		cni.KindBridge:     bridge.New(d.Log),
		cni.KindHostDevice: hostdevice.New(d.Log),
		cni.KindBond:       bond.New(d.Log),
	}
}

// modifiers change them, in a chain.
func (d *daemon) modifiers() map[string]cni.Modifier {
	return map[string]cni.Modifier{"tuning": tuning.New(tuning.DefaultAllowlist, d.Log), "sbr": sbr.New(d.Log), "vrf": vrf.New(d.Log)}
}
