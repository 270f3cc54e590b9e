package delegate

import (
	"fmt"
	"strings"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/utils"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/cni/refusal"
)

// ourselves are the plugin types that would call the daemon again, for the same
// container and under its lock, or, for Multus, attach everything twice.
var ourselves = map[string]bool{"tendril": true, "multus": true, "multus-shim": true}

func checkForeign(n netconf.Network) error {
	for i, p := range n.Plugins {
		if ourselves[p.Type] {
			return refusal.New("", fmt.Sprintf("plugins[%d].type", i), p.Type, "a plugin other than tendril, multus and multus-shim, which would call back")
		}
	}
	return nil
}

// listOf makes libcni's form of n.
func listOf(n netconf.Network) (*libcni.NetworkConfigList, error) {
	if err := checkForeign(n); err != nil {
		return nil, refusal.Name(err, fmt.Sprintf("network %q", n.Name))
	}
	data, err := netconf.List(n)
	if err != nil {
		return nil, err
	}
	list, err := libcni.NetworkConfFromBytes(data)
	if err != nil {
		return nil, refusal.New(fmt.Sprintf("network %q", n.Name), "", string(data), "a CNI configuration list").Because(err)
	}
	return list, nil
}

// checkNames checks what becomes part of a file name (CNI specification 1.1,
// section 2, "Parameters"; libcni itself checks for ADD only).
func checkNames(a cni.Attachment) error {
	object := "attachment of pod " + a.Pod.String()
	if utils.ValidateNetworkName(a.Config.Name) != nil {
		return refusal.New(object, "name", a.Config.Name, nameForm)
	}
	if utils.ValidateContainerID(a.ContainerID) != nil {
		return refusal.New(object, "CNI_CONTAINERID", a.ContainerID, nameForm)
	}
	if utils.ValidateInterfaceName(a.IfName) != nil {
		return refusal.New(object, "CNI_IFNAME", a.IfName, "1 to 15 bytes without '/', ':' and white space, and not . or ..")
	}
	return nil
}

const nameForm = "letters, digits, '_', '.', '-', the first one a letter or a digit"

// runtimeConf makes libcni's form of what differs from call to call.
func runtimeConf(a cni.Attachment) *libcni.RuntimeConf {
	rt := &libcni.RuntimeConf{
		ContainerID:    a.ContainerID,
		NetNS:          a.Netns.Path,
		IfName:         a.IfName,
		Args:           pairs(a.CNIArgs),
		CapabilityArgs: map[string]any{},
	}
	for k, v := range a.RuntimeConfig {
		rt.CapabilityArgs[k] = v
	}
	return rt
}

// pairs splits CNI_ARGS. Order and repeated keys are kept: old plugins read the
// first one, newer ones the last.
func pairs(args string) [][2]string {
	var out [][2]string
	for p := range strings.SplitSeq(args, ";") {
		if k, v, _ := strings.Cut(p, "="); k != "" {
			out = append(out, [2]string{k, v})
		}
	}
	return out
}
