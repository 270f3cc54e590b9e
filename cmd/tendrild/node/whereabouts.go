package node

import (
	"context"

	"github.com/tendril-cni/tendril/ipam/whereabouts"
)

// What Config.Whereabouts may say beside a namespace.
const (
	whereaboutsAuto = "auto"
	whereaboutsOff  = "off"
)

// besideWhereabouts finds out whether whereabouts hands out addresses of the same
// ranges, on nodes that are not changed over yet, and shares them with it. It has
// to be known before the first claim.
func (d *daemon) besideWhereabouts(ctx context.Context) error {
	namespace := d.Whereabouts
	switch namespace {
	case whereaboutsOff:
		return nil
	case "", whereaboutsAuto:
		var found bool
		var err error
		if namespace, found, err = whereabouts.Find(ctx, d.rest); err != nil || !found {
			return err
		}
	}
	peer, err := whereabouts.NewReservations(d.rest, namespace, d.NodeName)
	if err != nil {
		return err
	}
	d.slots.Alongside(peer)
	d.Log.Warn("whereabouts has objects in this cluster: every address is reserved there too, which costs API calls; end it with --whereabouts=off or by deleting its IPPool definition once no node runs it",
		"namespace", namespace)
	return nil
}
