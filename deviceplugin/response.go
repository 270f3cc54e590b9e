package deviceplugin

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
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
	// CDI are qualified names of devices in the CDI specification, which carry
	// the nodes then.
	CDI []string
}

// Node is a device node. Access is a set of the letters r, w and m.
type Node struct{ Host, Container, Access string }

// info is the content of the _INFO variable: provider, key, value.
type info map[string]map[string]string

const (
	vfioControl  = "/dev/vfio/vfio"
	vhostNetNode = "/dev/vhost-net"
	tunNode      = "/dev/net/tun"
	infiniband   = "/dev/infiniband/"
	rdmaCM       = "rdma_cm"
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
	var r Response
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
		switch {
		case len(needs) > 0 && p.host.CDI:
			r.CDI = append(r.CDI, cdiKind+"="+p.cdiName(d))
		default:
			r.add(needs)
		}
	}
	text, err := json.Marshal(about)
	if err != nil {
		return Response{}, fmt.Errorf("describe devices of %s: %w", p.Name(), err)
	}
	name := p.Resource.Variable()
	r.Env = map[string]string{name: strings.Join(ids, ","), name + "_INFO": string(text)}
	return r, nil
}

// add adds the nodes that are not there yet.
func (r *Response) add(nodes []Node) {
	for _, n := range nodes {
		if !slices.Contains(r.Nodes, n) {
			r.Nodes = append(r.Nodes, n)
		}
	}
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
	for _, part := range []func(Device) (string, map[string]string, []Node){vfio, uio, p.rdma, vdpa, p.vhost} {
		provider, values, needs := part(d)
		if values != nil {
			about[provider] = values
		}
		nodes = append(nodes, needs...)
	}
	if extra := p.Resource.extra(d); len(extra) > 0 {
		about["extra"] = extra
	}
	return about, nodes
}

// vfio: a group without an IOMMU has a node of another name on the host
// (drivers/vfio/group.c), and the usual one in the container.
func vfio(d Device) (string, map[string]string, []Node) {
	if d.Driver != driverVFIO {
		return "", nil, nil
	}
	number := strconv.Itoa(d.IOMMUGroup)
	group := node("/dev/vfio/" + number)
	if d.Userspace.NoIOMMU {
		group.Host = "/dev/vfio/noiommu-" + number
	}
	return "vfio", map[string]string{"mount": vfioControl, "dev-mount": group.Container}, []Node{node(vfioControl), group}
}

func uio(d Device) (string, map[string]string, []Node) {
	onUIO := d.Driver == driverUIO || d.Driver == driverIGBUIO || d.Driver == driverGenericUIO
	if !onUIO || d.Userspace.UIO == "" {
		return "", nil, nil
	}
	n := node("/dev/" + d.Userspace.UIO)
	return "uio", map[string]string{"mount": n.Container}, []Node{n}
}

// rdma: besides the device's own nodes comes the connection manager's, which all
// devices share. Where a device has two RDMA devices, the variable of a kind of
// node has the last one's path; the nodes are all there.
func (p *Pool) rdma(d Device) (string, map[string]string, []Node) {
	if !d.WithRDMA {
		return "", nil, nil
	}
	values := map[string]string{}
	var nodes []Node
	for _, name := range d.Userspace.RDMA {
		nodes = append(nodes, node(infiniband+name))
		values[strings.TrimRight(name, "0123456789")] = infiniband + name
	}
	if p.host.RDMACM {
		nodes = append(nodes, node(infiniband+rdmaCM))
		values[rdmaCM] = infiniband + rdmaCM
	}
	if len(d.RDMA) > 0 {
		values["rdma_dev"] = strings.Join(d.RDMA, ",")
	}
	return "rdma", values, nodes
}

// vdpa: a device on virtio_vdpa is a network device and has no node.
func vdpa(d Device) (string, map[string]string, []Node) {
	switch d.VDPA {
	case "vhost":
		n := node("/dev/" + d.Userspace.VDPA.Node)
		n.Access = "mrw"
		return "vdpa", map[string]string{"mount": n.Container}, []Node{n}
	case "virtio":
		return "vdpa", map[string]string{}, nil
	}
	return "", nil, nil
}

// vhost has a variable only for a node that comes with it: naming one that is
// not there sends a program to open it.
func (p *Pool) vhost(d Device) (string, map[string]string, []Node) {
	if !d.VhostNet || !p.host.VhostNet && !p.host.Tun {
		return "", nil, nil
	}
	values := map[string]string{}
	var nodes []Node
	if p.host.VhostNet {
		values["net-mount"] = vhostNetNode
		nodes = append(nodes, node(vhostNetNode))
	}
	if p.host.Tun {
		values["tun-mount"] = tunNode
		nodes = append(nodes, node(tunNode))
	}
	return "vhost", values, nodes
}

func node(path string) Node { return Node{Host: path, Container: path, Access: "rw"} }

// extra merges additionalInfo for all devices, for those of one parent, and for
// this one; what is nearer wins.
func (r Resource) extra(d Device) map[string]string {
	if len(r.AdditionalInfo) == 0 {
		return nil
	}
	merged := map[string]string{}
	maps.Copy(merged, r.AdditionalInfo["*"])
	if r.Type == AuxNetDevice {
		maps.Copy(merged, r.AdditionalInfo[d.PF.String()])
	}
	maps.Copy(merged, r.AdditionalInfo[d.ID])
	return merged
}
