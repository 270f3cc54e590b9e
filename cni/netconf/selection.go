package netconf

import (
	"encoding/json"
	"net/netip"
)

// Element is one entry of the pod annotation k8s.v1.cni.cncf.io/networks
// (NPWG v1.3), validated: names are legal, addresses parsed, defaults applied.
type Element struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// Interface is the name asked for; empty means net<position>.
	Interface string `json:"interface,omitempty"`
	// IPs are the addresses asked for, as written (address or CIDR), each valid.
	IPs []string `json:"ips,omitempty"`
	// MAC is a hardware address of 6, 8 or 20 bytes in lower-case colon form.
	MAC string `json:"mac,omitempty"`
	// InfinibandGUID is a GUID of 8 bytes in lower-case colon form.
	InfinibandGUID string `json:"infinibandGUID,omitempty"`
	// PortMappings is a list of objects hostPort, containerPort, protocol (tcp,
	// udp or sctp) and, where given, hostIP.
	PortMappings json.RawMessage `json:"portMappings,omitempty"`
	// Bandwidth is an object with all of ingressRate, ingressBurst (bits/s and
	// bits), egressRate, egressBurst.
	Bandwidth json.RawMessage `json:"bandwidth,omitempty"`
	// DefaultRoute is nil when the key is absent and empty but not nil for [].
	DefaultRoute []netip.Addr `json:"defaultRoute,omitzero"`
	// CNIArgs go over args.cni of the configuration: see WithArgs.
	CNIArgs map[string]json.RawMessage `json:"cniArgs,omitempty"`
	// DeviceID is used when the pod's resources give no device.
	DeviceID string `json:"deviceID,omitempty"`
	// IPAMClaim is the name of an IPAMClaim in the pod's namespace.
	IPAMClaim string `json:"ipamClaim,omitempty"`
}

// Ref returns "namespace/name" of the definition asked for.
func (e Element) Ref() string { return e.Namespace + "/" + e.Name }
