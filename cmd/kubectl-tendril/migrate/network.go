package migrate

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strings"

	nad "github.com/k8snetworkplumbingwg/network-attachment-definition-client/pkg/apis/k8s.cni.cncf.io/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tendril-cni/tendril/webhook/validate"
)

// sriovNetwork is the spec of a SriovNetwork (sriovnetwork.openshift.io/v1).
type sriovNetwork struct {
	NetworkNamespace string `json:"networkNamespace"`
	ResourceName     string `json:"resourceName"`
	Capabilities     string `json:"capabilities"`
	IPAM             string `json:"ipam"`
	VLAN             int    `json:"vlan"`
	VLANQoS          int    `json:"vlanQoS"`
	VLANProto        string `json:"vlanProto"`
	SpoofChk         string `json:"spoofChk"`
	Trust            string `json:"trust"`
	LinkState        string `json:"linkState"`
	MinTxRate        *int   `json:"minTxRate"`
	MaxTxRate        *int   `json:"maxTxRate"`
	MetaPlugins      string `json:"metaPlugins"`
	LogLevel         string `json:"logLevel"`
	LogFile          string `json:"logFile"`
}

// network makes the definition that the operator makes of it, without the mark by
// which the operator deletes it.
func (t *translation) network(u *unstructured.Unstructured) {
	n, other, err := decode[sriovNetwork](u)
	if err != nil {
		t.note(Left, u, "it cannot be read: %v", err)
		return
	}
	config, err := n.config(u.GetName())
	if err != nil {
		t.note(Left, u, "%v", err)
		return
	}
	d := &nad.NetworkAttachmentDefinition{}
	d.APIVersion, d.Kind = "k8s.cni.cncf.io/v1", validate.NetworkKind.Kind
	d.Name, d.Namespace = u.GetName(), cmp.Or(n.NetworkNamespace, u.GetNamespace())
	d.Annotations = map[string]string{validate.ResourceAnnotation: t.options.Prefix + "/" + n.ResourceName}
	d.Spec.Config = config
	for _, f := range validate.Denied(validate.Network(d, validate.Facts{})) {
		t.note(Left, u, "%s", f)
		return
	}
	t.ignored(u, other)
	t.note(Info, u, "the definition %s/%s stays the same; delete the SriovNetwork only when the operator runs no more, since it deletes the definition with it", d.Namespace, d.Name)
	t.add(without(d))
}

// config is the CNI configuration that sriov-network-operator renders.
func (n sriovNetwork) config(name string) (string, error) {
	plugin := map[string]any{"type": "sriov", "vlan": n.VLAN, "vlanQoS": n.VLANQoS}
	for key, v := range map[string]string{"vlanProto": n.VLANProto, "spoofchk": n.SpoofChk, "trust": n.Trust, "link_state": n.LinkState, "logLevel": n.LogLevel, "logFile": n.LogFile} {
		if v != "" {
			plugin[key] = v
		}
	}
	for key, v := range map[string]*int{"min_tx_rate": n.MinTxRate, "max_tx_rate": n.MaxTxRate} {
		if v != nil {
			plugin[key] = *v
		}
	}
	if err := inline(plugin, "ipam", n.IPAM); err != nil {
		return "", err
	}
	if err := inline(plugin, "capabilities", n.Capabilities); err != nil {
		return "", err
	}
	whole := plugin
	if n.MetaPlugins != "" {
		var more []any
		// The operator's field is the inside of a list.
		if err := json.Unmarshal([]byte("["+strings.TrimSuffix(strings.TrimSpace(n.MetaPlugins), ",")+"]"), &more); err != nil {
			return "", fmt.Errorf("field spec.metaPlugins: value %.60q is not allowed; allowed: JSON objects, separated by commas (%w)", n.MetaPlugins, err)
		}
		whole = map[string]any{"plugins": append([]any{plugin}, more...)}
	}
	whole["cniVersion"], whole["name"] = "1.0.0", name
	text, err := json.Marshal(whole)
	return string(text), err
}

// inline puts a field of JSON text into the plugin's configuration.
func inline(plugin map[string]any, key, text string) error {
	if strings.TrimSpace(text) == "" {
		return nil
	}
	var v map[string]any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		return fmt.Errorf("field spec.%s: value %.60q is not allowed; allowed: a JSON object (%w)", key, text, err)
	}
	if len(v) > 0 {
		plugin[key] = v
	}
	return nil
}
