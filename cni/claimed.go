package cni

import (
	"encoding/json"
	"fmt"

	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/cni/refusal"
	"github.com/tendril-cni/tendril/ipam"
)

// addresses reads an ipam object, with the node's defaults where its type has such.
func (w Wanted) addresses(raw json.RawMessage, kind string) (ipam.Config, error) {
	if kind == ipam.TypeWhereabouts && len(w.Flat) > 0 {
		var err error
		if raw, err = ipam.MergeFlat(raw, w.Flat); err != nil {
			return ipam.Config{}, err
		}
	}
	return ipam.Parse(raw)
}

// claim is the IPAMClaim whose addresses the attachment gets: the one that the
// pod names, or that of its ordinal in a sticky network; empty for none.
func (w Wanted) claim(a Attachment, e netconf.Element, cfg ipam.Config) (string, error) {
	switch {
	case cfg.Cluster == nil:
		return "", noClaim(e, cfg.Type)
	case e.IPAMClaim != "":
		return w.Pod.Namespace + "/" + e.IPAMClaim, nil
	case cfg.Cluster.Sticky && w.Ordinal:
		return ipam.StickyClaim(w.Pod.Namespace, w.Pod.Name, a.Config.Name, a.IfName), nil
	}
	return "", nil
}

// noClaim refuses a claim in a network whose addresses it cannot have.
func noClaim(e netconf.Element, kind string) error {
	if e.IPAMClaim == "" {
		return nil
	}
	return refusal.New("", "ipam-claim-reference", e.IPAMClaim,
		fmt.Sprintf("only with ipam type %s or %s; this network has %q", ipam.TypeTendril, ipam.TypeWhereabouts, kind))
}

// foreignIPAM refuses our own ipam type in a network of a foreign plugin, which
// would look for an executable of that name.
func foreignIPAM(a Attachment) error {
	for i, p := range a.Config.Plugins {
		if _, kind, err := netconf.ParseIPAM(p); err == nil && kind == ipam.TypeTendril {
			return refusal.New("", fmt.Sprintf("plugins[%d].ipam.type", i), kind, "with a type that Tendril serves itself; "+p.Type+" is run as an executable and needs an ipam that is one")
		}
	}
	return nil
}
