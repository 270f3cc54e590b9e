package dhcp

import (
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/tendril-cni/tendril/cni/refusal"
)

// Request is what a client asks for. It is a value and can be stored.
type Request struct {
	// ClientID is sent as option 61; see ClientID.
	ClientID string `json:"clientID"`
	// IfName is the interface in the pod.
	IfName string `json:"ifName"`
	// Options are sent as they are, by code; Wanted are the codes asked for.
	Options map[uint8]string `json:"options,omitempty"`
	Wanted  []uint8          `json:"wanted,omitempty"`
	// Priority is the metric of the lease's routes, 0 for the kernel's.
	Priority int `json:"priority,omitempty"`
}

// ClientID names an attachment as the reference does: container, network and
// interface, cut at 254 bytes.
func ClientID(containerID, network, ifName string) string {
	id := containerID + "/" + network + "/" + ifName
	return id[:min(len(id), 254)]
}

// optionNames are the words for options that a configuration may use, after
// dhcp-options(5).
var optionNames = map[string]uint8{
	"dhcp-client-identifier": 61, "subnet-mask": 1, "routers": 3, "host-name": 12, "user-class": 77, "vendor-class-identifier": 60,
}

// defaults are asked for unless the configuration says skipDefault: router and
// subnet mask, and, more than the reference, what its DNS needs.
var defaults = []uint8{3, 1, 121, 33, 6, 15, 119}

// Parse reads the ipam object of type dhcp (containernetworking plugins v1.9,
// ipam/dhcp): provide, request, priority. args are the pairs of CNI_ARGS. Every
// error is a refusal.Refusal without an object.
func Parse(raw json.RawMessage, args map[string]string) (Request, error) {
	var conf struct {
		Provide []struct {
			Option  string `json:"option"`
			Value   string `json:"value"`
			FromArg string `json:"fromArg"`
		} `json:"provide"`
		Request []struct {
			SkipDefault bool   `json:"skipDefault"`
			Option      string `json:"option"`
		} `json:"request"`
		Priority int `json:"priority"`
	}
	if err := json.Unmarshal(raw, &conf); err != nil {
		return Request{}, refusal.New("", "ipam", fmt.Sprintf("%.60s", raw), "an ipam object of type dhcp").Because(err)
	}
	if conf.Priority < 0 || conf.Priority > 1<<32-1 {
		return Request{}, refusal.New("", "ipam.priority", conf.Priority, "0..4294967295")
	}
	r := Request{Options: map[uint8]string{}, Priority: conf.Priority}
	for i, p := range conf.Provide {
		field := fmt.Sprintf("ipam.provide[%d].", i)
		code, err := option(field+"option", p.Option)
		if err != nil {
			return Request{}, err
		}
		value := p.Value
		if v, ok := args[p.FromArg]; ok && p.FromArg != "" {
			value = v
		}
		if len(value) > 255 {
			return Request{}, refusal.New("", field+"value", value[:32]+"...", "at most 255 bytes")
		}
		if value != "" {
			r.Options[code] = value
		}
	}
	skip := false
	for i, q := range conf.Request {
		skip = skip || q.SkipDefault
		if q.Option == "" {
			continue
		}
		code, err := option(fmt.Sprintf("ipam.request[%d].option", i), q.Option)
		if err != nil {
			return Request{}, err
		}
		r.Wanted = append(r.Wanted, code)
	}
	if !skip {
		r.Wanted = append(r.Wanted, defaults...)
	}
	return r, nil
}

func option(field, name string) (uint8, error) {
	if code, ok := optionNames[name]; ok {
		return code, nil
	}
	n, err := strconv.ParseUint(name, 10, 8)
	if err != nil || n == 0 || n == 255 {
		return 0, refusal.New("", field, name, "1..254, dhcp-client-identifier, subnet-mask, routers, host-name, user-class, vendor-class-identifier")
	}
	return uint8(n), nil
}

// id is option 61: type 0, which is no hardware address, and the client's ID.
func (r Request) id() []byte { return append([]byte{0}, r.ClientID...) }

func (r Request) modifiers() []dhcpv4.Modifier {
	out := []dhcpv4.Modifier{dhcpv4.WithBroadcast(true), dhcpv4.WithOption(dhcpv4.OptClientIdentifier(r.id()))}
	var wanted dhcpv4.OptionCodeList
	for _, code := range r.Wanted {
		wanted.Add(dhcpv4.GenericOptionCode(code))
	}
	if len(wanted) > 0 {
		out = append(out, dhcpv4.WithOption(dhcpv4.Option{Code: dhcpv4.OptionParameterRequestList, Value: wanted}))
	}
	for code, value := range r.Options {
		out = append(out, dhcpv4.WithOption(dhcpv4.Option{Code: dhcpv4.GenericOptionCode(code), Value: dhcpv4.String(value)}))
	}
	return out
}
