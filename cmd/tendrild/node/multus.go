package node

import (
	"context"
	"encoding/json"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/multussock"
	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/cni/rpc"
)

// serveMultus answers clients of the Multus daemon. Plugins that their calls need
// run in the place of a call of the runtime.
func (d *daemon) serveMultus(ctx context.Context) error {
	ln, err := rpc.Listen(d.MultusSocket)
	if err != nil {
		return err
	}
	h := handler{engine: d.engine, dirs: d.pluginDirs, log: d.Log}
	server := &multussock.Server{
		Call: func(ctx context.Context, command string, r cni.Request) ([]byte, error) {
			r.Run = d.upkeep.desk.Runner()
			out, err := h.command(ctx, command, r)
			if command == "DEL" && err == nil {
				d.deleted(r.ContainerID)
			}
			return out, err
		},
		Delegate: d.delegated, Ready: d.engine.Status, Open: namespaces{}.Open, Log: d.Log,
	}
	d.Log.Info("serving clients of Multus", "socket", d.MultusSocket)
	return server.Serve(ctx, ln)
}

// delegated serves one network of a running pod.
func (d *daemon) delegated(ctx context.Context, command string, r cni.Request, network netconf.Network, el netconf.Element) ([]byte, error) {
	r.Run = d.upkeep.desk.Runner()
	switch command {
	case "ADD":
		res, err := d.engine.AttachOne(ctx, r, network, el)
		if err != nil {
			return nil, err
		}
		return json.Marshal(res)
	case "DEL":
		return nil, d.engine.DetachOne(ctx, r)
	}
	return nil, d.engine.CheckOne(ctx, r)
}
