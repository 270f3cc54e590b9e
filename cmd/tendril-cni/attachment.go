package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"

	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/types/create"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/cni/refusal"
)

// given is what ADD and CHECK read of the configuration themselves; the rest is
// the drivers' and the ipams'. It is decoded once: to look at its type takes
// encoding/json longer than to read it.
type given struct {
	Master        string `json:"master"`
	DeviceID      string `json:"deviceID"`
	RuntimeConfig struct {
		MAC      string   `json:"mac"`
		DeviceID string   `json:"deviceID"`
		IPs      []string `json:"ips"`
	} `json:"runtimeConfig"`
	Args struct {
		CNI struct {
			IPs []string `json:"ips"`
		} `json:"cni"`
	} `json:"args"`
	PrevResult json.RawMessage `json:"prevResult"`
}

func decodeGiven(stdin []byte) (g given, err error) {
	err = json.Unmarshal(stdin, &g)
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		return g, refusal.New("network configuration", wrong.Field, wrong.Value, "a value of type "+wrong.Type.String()).Because(err)
	}
	if err != nil {
		return g, fmt.Errorf("decode configuration: %w", err)
	}
	return g, nil
}

// named is as much of the attachment as its record's name is made of.
func (c call) named(kind string) cni.Attachment {
	return cni.Attachment{Kind: kind, ContainerID: c.ContainerID, IfName: c.IfName}
}

// attachment is what the call asks for, without addresses.
func (c call) attachment(kind string) (cni.Attachment, error) {
	g, err := c.given()
	if err != nil {
		return cni.Attachment{}, err
	}
	a := cni.Attachment{
		ContainerID: c.ContainerID, IfName: c.IfName, Call: c.IfName, Netns: cni.Netns{Path: c.Netns},
		Network: c.network.Name, Kind: kind, Config: c.network, CNIArgs: c.Args,
		Pod:    cni.PodRef{Namespace: c.args["K8S_POD_NAMESPACE"], Name: c.args["K8S_POD_NAME"], UID: c.args["K8S_POD_UID"]},
		Device: cmp.Or(g.RuntimeConfig.DeviceID, g.DeviceID),
	}
	if a.MAC, err = c.mac(kind, g.RuntimeConfig.MAC); err != nil {
		return a, err
	}
	a.DNS, err = netconf.ParseDNS(c.network.Plugins[0])
	return a, err
}

// mac is the strongest wish beside the configuration's own field: CNI_ARGS, for
// a bridge args.cni, runtimeConfig.
func (c call) mac(kind, runtime string) (string, error) {
	mac, field := c.args["MAC"], "CNI_ARGS MAC"
	if kind == "bridge" {
		fromArgs, err := netconf.ArgsMAC(c.network.Plugins[0])
		if err != nil {
			return "", err
		}
		if fromArgs != "" {
			mac = fromArgs
		}
	}
	if runtime != "" {
		mac, field = runtime, "runtimeConfig.mac"
	}
	if mac == "" {
		return "", nil
	}
	out, ok := netconf.ParseMAC(mac)
	if !ok {
		return "", refusal.New("network configuration", field, mac, "a unicast Ethernet address")
	}
	return out, nil
}

// prevResult is the result of the chain so far, nil if there is none.
func (c call) prevResult() (*current.Result, error) {
	g, err := c.given()
	if err != nil || len(g.PrevResult) == 0 || string(g.PrevResult) == "null" {
		return nil, err
	}
	res, err := create.Create(c.network.CNIVersion, g.PrevResult)
	if err != nil {
		return nil, fmt.Errorf("decode prevResult: %w", err)
	}
	out, err := current.NewResultFromResult(res)
	if err != nil {
		return nil, fmt.Errorf("convert prevResult: %w", err)
	}
	return out, nil
}

// errNoPrevious is for plugins that only work in a chain.
func errNoPrevious(kind string) error {
	return refusal.New("network configuration", "prevResult", "", "the result of an earlier plugin: "+kind+" changes an interface that exists")
}

// chainedMaster sets the master of a link that is chained after another plugin
// and names none: the one interface of that plugin's result.
func chainedMaster(c call, n netconf.Network) (netconf.Network, error) {
	g, err := c.given()
	if err != nil || g.Master != "" {
		return n, err
	}
	res, err := c.prevResult()
	if err != nil || res == nil {
		return n, err
	}
	if len(res.Interfaces) != 1 || res.Interfaces[0].Name == "" {
		return n, refusal.New("network configuration", "prevResult.interfaces", len(res.Interfaces), "one interface with a name, to be the master; or a master")
	}
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal(n.Plugins[0].Raw, &fields); err != nil {
		return n, fmt.Errorf("decode configuration: %w", err)
	}
	fields["master"], _ = json.Marshal(res.Interfaces[0].Name)
	raw, err := json.Marshal(fields)
	if err != nil {
		return n, fmt.Errorf("encode configuration: %w", err)
	}
	n.Plugins = []netconf.Plugin{n.Plugins[0]}
	n.Plugins[0].Raw = raw
	return n, nil
}

// lease is what an ipam gave.
type lease struct {
	result *current.Result
	// vouched: ours handed it out, and no one else has it.
	vouched bool
}

// into writes the lease into the attachment. A route without a gateway gets the
// first of its family, as with the reference.
func (l lease) into(a *cni.Attachment) error {
	if l.result == nil {
		return nil
	}
	a.Vouched, a.Addresses, a.Routes = l.vouched, nil, nil
	for _, ip := range l.result.IPs {
		addr, ok := netip.AddrFromSlice(ip.Address.IP)
		ones, _ := ip.Address.Mask.Size()
		if !ok {
			return fmt.Errorf("read the ipam's answer: address %s", ip.Address.IP)
		}
		gw, _ := netip.AddrFromSlice(ip.Gateway)
		a.Addresses = append(a.Addresses, cni.Address{Prefix: netip.PrefixFrom(addr.Unmap(), ones), Gateway: gw.Unmap()})
	}
	for _, r := range l.result.Routes {
		dst, ok := netip.AddrFromSlice(r.Dst.IP)
		ones, _ := r.Dst.Mask.Size()
		if !ok {
			return fmt.Errorf("read the ipam's answer: route to %s", r.Dst.IP)
		}
		via, _ := netip.AddrFromSlice(r.GW)
		out := cni.Route{Dst: netip.PrefixFrom(dst.Unmap(), ones), Via: via.Unmap(), MTU: r.MTU, AdvMSS: r.AdvMSS, Priority: r.Priority, Table: r.Table, Scope: r.Scope}
		if !out.Via.IsValid() {
			out.Via = firstGateway(a.Addresses, out.Dst.Addr().Is4())
		}
		a.Routes = append(a.Routes, out)
	}
	return nil
}

func firstGateway(addrs []cni.Address, is4 bool) netip.Addr {
	for _, a := range addrs {
		if a.Gateway.IsValid() && a.Gateway.Is4() == is4 {
			return a.Gateway
		}
	}
	return netip.Addr{}
}
