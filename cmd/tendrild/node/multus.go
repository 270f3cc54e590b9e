package node

import (
	"context"
	"encoding/json"

	current "github.com/containernetworking/cni/pkg/types/100"

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
			if command == "ADD" { // Multus' shim takes any result for one of 1.0.0 or later, and converts it
				return encoded(h.attach(ctx, r))
			}
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
		return encoded(d.engine.AttachOne(ctx, r, network, el))
	case "DEL":
		return nil, d.engine.DetachOne(ctx, r)
	}
	return nil, d.engine.CheckOne(ctx, r)
}

// encoded is a result as it is, in the newest version.
func encoded(res *current.Result, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	return json.Marshal(res)
}
