package migrate

import (
	"encoding/json"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tendril-cni/tendril/vf/v1alpha1"
)

// nodePolicy is the spec of a SriovNetworkNodePolicy
// (sriovnetwork.openshift.io/v1). Every field is always encoded, so that decode
// knows it.
type nodePolicy struct {
	ResourceName string            `json:"resourceName"`
	NodeSelector map[string]string `json:"nodeSelector"`
	Priority     *int              `json:"priority"`
	MTU          int               `json:"mtu"`
	NumVFs       int               `json:"numVfs"`
	NICSelector  struct {
		Vendor      string   `json:"vendor"`
		DeviceID    string   `json:"deviceID"`
		RootDevices []string `json:"rootDevices"`
		PFNames     []string `json:"pfNames"`
		NetFilter   string   `json:"netFilter"`
	} `json:"nicSelector"`
	DeviceType        string          `json:"deviceType"`
	IsRDMA            bool            `json:"isRdma"`
	NeedVhostNet      bool            `json:"needVhostNet"`
	LinkType          string          `json:"linkType"`
	ESwitchMode       string          `json:"eSwitchMode"`
	VDPAType          string          `json:"vdpaType"`
	ExcludeTopology   bool            `json:"excludeTopology"`
	ExternallyManaged bool            `json:"externallyManaged"`
	Bridge            json.RawMessage `json:"bridge"`
}

// policy makes a VFPolicy. What changes how VFs work, and Tendril does not have,
// keeps the policy from being translated at all.
func (t *translation) policy(u *unstructured.Unstructured) {
	p, other, err := decode[nodePolicy](u)
	if err != nil {
		t.note(Left, u, "it cannot be read: %v", err)
		return
	}
	if why := p.foreign(); why != "" {
		t.note(Left, u, "%s", why)
		return
	}
	out := &v1alpha1.VFPolicy{}
	out.APIVersion, out.Kind = v1alpha1.GroupVersion.String(), v1alpha1.KindPolicy.Kind
	out.Name = u.GetName()
	out.Spec = p.spec(t.options.Prefix)
	if err := v1alpha1.Validate(out); err != nil {
		t.note(Left, u, "%v", err)
		return
	}
	t.ignored(u, other)
	if p.ExternallyManaged {
		t.note(Info, u, "externallyManaged: VFs that Tendril did not make are left in their number, whatever a policy says; it takes the first %d", p.NumVFs)
	} else {
		t.note(Info, u, "the VFs that the operator made stay as they are; after the next boot Tendril makes %d", p.NumVFs)
	}
	t.add(without(out))
}

// foreign says what of a policy Tendril does not have, as refusals do.
func (p nodePolicy) foreign() string {
	for _, f := range []struct {
		set            bool
		field, allowed string
		value          any
	}{
		{p.DeviceType != "" && p.DeviceType != "netdevice" && p.DeviceType != "vfio-pci", "deviceType", "netdevice, vfio-pci", p.DeviceType},
		{p.IsRDMA, "isRdma", "false: RDMA devices are not handed out by policies", p.IsRDMA},
		{p.LinkType != "" && !strings.EqualFold(p.LinkType, "eth"), "linkType", "eth", p.LinkType},
		{p.ESwitchMode != "" && p.ESwitchMode != "legacy", "eSwitchMode", "legacy", p.ESwitchMode},
		{p.VDPAType != "", "vdpaType", "none", p.VDPAType},
		{p.NICSelector.NetFilter != "", "nicSelector.netFilter", "none: name PFs by pfNames, rootDevices, vendor or deviceID", p.NICSelector.NetFilter},
		{len(p.Bridge) > 0 && string(p.Bridge) != "null" && string(p.Bridge) != "{}", "bridge", "none", string(p.Bridge)},
	} {
		if f.set {
			return fmt.Sprintf("field spec.%s: value %v is not allowed; allowed: %s", f.field, f.value, f.allowed)
		}
	}
	return ""
}

func (p nodePolicy) spec(prefix string) v1alpha1.VFPolicySpec {
	out := v1alpha1.VFPolicySpec{
		NodeSelector: p.NodeSelector, Priority: p.Priority, NumVFs: p.NumVFs, CreateVFs: p.NumVFs, MTU: p.MTU,
		ResourceName: prefix + "/" + p.ResourceName, ExcludeTopology: p.ExcludeTopology, NeedVhostNet: p.NeedVhostNet,
		NICSelector: v1alpha1.NICSelector{PFNames: p.NICSelector.PFNames, RootDevices: p.NICSelector.RootDevices},
	}
	if p.ResourceName == "" {
		out.ResourceName = ""
	}
	if v := p.NICSelector.Vendor; v != "" {
		out.NICSelector.Vendors = []string{v}
	}
	if d := p.NICSelector.DeviceID; d != "" {
		out.NICSelector.Devices = []string{d}
	}
	if p.DeviceType == "vfio-pci" {
		out.Driver = p.DeviceType
	}
	return out
}

// without turns a typed object into one that is applied: no empty status, no
// creation time.
func without(v any) *unstructured.Unstructured {
	text, err := json.Marshal(v)
	u := &unstructured.Unstructured{}
	if err == nil {
		err = json.Unmarshal(text, &u.Object)
	}
	if err != nil {
		panic(err) // a type of ours that does not encode
	}
	unstructured.RemoveNestedField(u.Object, "metadata", "creationTimestamp")
	unstructured.RemoveNestedField(u.Object, "status")
	return u
}
