package migrate

import (
	"encoding/json"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/deviceplugin"
)

// defaultPrefix is that of the SR-IOV device plugin for resources without one.
const defaultPrefix = "intel.com"

// The ConfigMaps that tendrild reads, and their keys.
const (
	poolsName    = "tendril-pools"
	poolsKey     = "config.json"
	networksName = "tendril-networks"
	networksKey  = "networks.json"
)

// configMap looks for configurations of the device plugin and of Multus.
func (t *translation) configMap(u *unstructured.Unstructured) {
	if u.GetName() == poolsName || u.GetName() == networksName {
		return // ours
	}
	data, _, _ := unstructured.NestedStringMap(u.Object, "data")
	for key, text := range data {
		switch {
		case key == "config.json" && strings.Contains(text, "resourceList"):
			t.pools = append(t.pools, config{name(u), text})
		case key == "daemon-config.json", key == "cni-conf.json" && strings.Contains(text, `"multus`):
			t.networks = append(t.networks, config{name(u), text})
		case u.GetName() == "device-plugin-config" && strings.Contains(text, "resourceList"):
			t.note(Info, u, "the operator makes this of its policies; node %s has its pools from the VFPolicies", key)
		}
	}
}

// finish makes the ConfigMaps. Of several sources only equal ones are one.
func (t *translation) finish() {
	if c, ok := t.only(t.pools); ok {
		t.poolsMap(c)
	}
	if c, ok := t.only(t.networks); ok {
		t.networksMap(c)
	}
}

func (t *translation) say(level Level, source, says string) {
	t.result.Notes = append(t.result.Notes, Note{level, source, says})
}

func (t *translation) only(all []config) (config, bool) {
	if len(all) == 0 {
		return config{}, false
	}
	for _, c := range all[1:] {
		if strings.TrimSpace(c.text) != strings.TrimSpace(all[0].text) {
			t.say(Left, c.source, "it differs from "+all[0].source+": a cluster has one configuration; give the one that counts with -f")
			return config{}, false
		}
	}
	return all[0], true
}

// poolsMap: the device plugin's configuration is ours as it is.
func (t *translation) poolsMap(c config) {
	parsed, err := deviceplugin.Parse(strings.NewReader(c.text), c.source, defaultPrefix)
	if err != nil {
		t.say(Left, c.source, err.Error())
		return
	}
	var names []string
	for _, r := range parsed.Resources {
		names = append(names, r.String())
	}
	slices.Sort(names)
	t.say(Info, c.source, "it runs unchanged, offering "+strings.Join(names, ", ")+"; take the device plugin off a node before tendrild comes there")
	t.add(t.made(poolsName, poolsKey, c.text))
}

// networksMap: Multus' configuration is ours as it is, if it says anything.
func (t *translation) networksMap(c config) {
	n, err := netconf.ParseNode(c.source, []byte(c.text))
	if err != nil {
		t.say(Left, c.source, err.Error())
		return
	}
	if len(n.Idle) > 0 {
		t.say(Changed, c.source, "keys that mean nothing to Tendril: "+strings.Join(n.Idle, ", "))
	}
	if n.ClusterNetwork == "" && len(n.Delegates) == 0 && len(n.DefaultNetworks) == 0 && !n.Isolation && n.ReadinessFile == "" &&
		n.ConfDir == "" && n.BinDir == "" && n.MasterFile == "" {
		t.say(Info, c.source, "it says nothing beside the defaults: Tendril needs no configuration of networks")
		return
	}
	t.say(Info, c.source, "it runs unchanged as "+networksKey)
	t.add(t.made(networksName, networksKey, c.text))
}

func (t *translation) made(name, key, text string) *unstructured.Unstructured {
	if json.Valid([]byte(text)) {
		text = strings.TrimSpace(text) + "\n"
	}
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap",
		"metadata": map[string]any{"name": name, "namespace": t.options.System},
		"data":     map[string]any{key: text},
	}}
}
