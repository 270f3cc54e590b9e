package deviceplugin

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tendril-cni/tendril/cni/refusal"
)

// Response is what a container gets with its devices (the kubelet's
// ContainerAllocateResponse).
type Response struct {
	Env   map[string]string
	Nodes []Node
}

// Node is a device node. Access is a set of the letters r, w and m.
type Node struct{ Host, Container, Access string }

// info is the content of the _INFO variable: provider, key, value.
type info map[string]map[string]string

const (
	vfioControl  = "/dev/vfio/vfio"
	vhostNetNode = "/dev/vhost-net"
	tunNode      = "/dev/net/tun"
)

// Response answers one container's Allocate. Env has PCIDEVICE_<PREFIX>_<NAME>
// with the ids in the order asked, joined by commas, and the same name with
// _INFO: a JSON object of id, provider, key and value, as the SR-IOV network
// device plugin writes it. Nodes are those of vfio-pci devices and, where the
// selector says needVhostNet and the host has them, vhost-net and tun; each
// host path is there once.
//
// An id that is not in the pool, or is not healthy, refuses the whole request.
func (p *Pool) Response(ids []string) (Response, error) {
	if len(ids) == 0 {
		return Response{}, p.refuse("", "at least one device")
	}
	about := make(map[string]info, len(ids))
	var nodes []Node
	for _, id := range ids {
		d, ok := p.Device(id)
		switch {
		case !ok:
			return Response{}, p.refuse(id, p.choice())
		case !d.Healthy():
			return Response{}, p.refuse(id, "a healthy device").Because(errors.New(d.Cause))
		case about[id] != nil:
			return Response{}, p.refuse(id, "every device once")
		}
		var needs []Node
		about[id], needs = p.describe(d)
		for _, n := range needs {
			if !slices.Contains(nodes, n) {
				nodes = append(nodes, n)
			}
		}
	}
	text, err := json.Marshal(about)
	if err != nil {
		return Response{}, fmt.Errorf("describe devices of %s: %w", p.Name(), err)
	}
	name := p.Resource.Variable()
	env := map[string]string{name: strings.Join(ids, ","), name + "_INFO": string(text)}
	return Response{Env: env, Nodes: nodes}, nil
}

// Variable returns the name of the environment variable that carries the ids:
// PCIDEVICE_<PREFIX>_<NAME> in upper case, dots of the prefix as underscores, a
// hyphen as it is.
func (r Resource) Variable() string {
	return strings.ToUpper("PCIDEVICE_" + strings.ReplaceAll(r.Prefix, ".", "_") + "_" + r.Name)
}

func (p *Pool) refuse(id, allowed string) *refusal.Refusal {
	return refusal.New(fmt.Sprintf("resource %q", p.Name()), "devices", id, allowed)
}

// choice describes the pool's ids for refusals, without printing a thousand.
func (p *Pool) choice() string {
	if len(p.Devices) == 0 {
		return "none, the pool is empty"
	}
	first, last := p.Devices[0].ID, p.Devices[len(p.Devices)-1].ID
	return fmt.Sprintf("one of the %d devices of the pool, %s to %s", len(p.Devices), first, last)
}

// describe gives d's part of _INFO and the nodes it needs.
func (p *Pool) describe(d Device) (info, []Node) {
	about := info{"generic": {"deviceID": d.ID}}
	var nodes []Node
	if d.Driver == driverVFIO {
		group := "/dev/vfio/" + strconv.Itoa(d.IOMMUGroup)
		about["vfio"] = map[string]string{"mount": vfioControl, "dev-mount": group}
		nodes = append(nodes, node(vfioControl), node(group))
	}
	if d.VhostNet {
		// A variable only for a node that comes with it: naming one that is not
		// there sends a program to open it.
		vhost := map[string]string{}
		if p.host.VhostNet {
			vhost["net-mount"] = vhostNetNode
			nodes = append(nodes, node(vhostNetNode))
		}
		if p.host.Tun {
			vhost["tun-mount"] = tunNode
			nodes = append(nodes, node(tunNode))
		}
		if len(vhost) > 0 {
			about["vhost"] = vhost
		}
	}
	if extra := p.Resource.extra(d.ID); len(extra) > 0 {
		about["extra"] = extra
	}
	return about, nodes
}

func node(path string) Node { return Node{Host: path, Container: path, Access: "rw"} }

// extra merges additionalInfo for all devices with that for this one.
func (r Resource) extra(id string) map[string]string {
	all, own := r.AdditionalInfo["*"], r.AdditionalInfo[id]
	if len(all) == 0 {
		return own
	}
	merged := make(map[string]string, len(all)+len(own))
	for _, part := range []map[string]string{all, own} {
		for k, v := range part {
			merged[k] = v
		}
	}
	return merged
}
