package chart

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// plain are the manifests for those who do not use Helm.
var plain = map[string]manifest{
	"tendril.yaml": {
		about:  "Tendril as a whole: definitions, the daemon of every node, admission.",
		values: map[string]any{"namespace": map[string]any{"create": true}, "crds": map[string]any{"keep": false}},
	},
	"node.yaml": {
		about: "Tendril without admission: definitions and the daemon of every node.",
		values: map[string]any{
			"namespace": map[string]any{"create": true}, "crds": map[string]any{"keep": false}, "controller": map[string]any{"enabled": false},
		},
	},
	"controller.yaml": {
		about: "The admission of Tendril alone: webhooks, and static policies that hold while they\n" +
			"# are away. To go with node.yaml.",
		values: map[string]any{"crds": map[string]any{"install": false}, "node": map[string]any{"enabled": false}},
	},
	"uninstall.yaml": {
		about: "Takes Tendril off every node: apply it over the installation, wait for the rollout\n" +
			"# of the DaemonSet, then delete what was installed.",
		values: map[string]any{
			"crds": map[string]any{"install": false}, "controller": map[string]any{"enabled": false}, "node": map[string]any{"uninstall": true},
		},
		kinds: []string{"DaemonSet"},
	},
}

// manifest is one file: its values differ from the chart's.
type manifest struct {
	about  string
	values map[string]any
	// kinds are those of its objects; nil for all.
	kinds []string
}

func (m manifest) text(root string) ([]byte, error) {
	documents, err := Render(root, Release{Values: m.values})
	if err != nil {
		return nil, err
	}
	documents = slices.DeleteFunc(documents, func(d string) bool {
		return m.kinds != nil && !slices.ContainsFunc(m.kinds, func(k string) bool { return strings.Contains(d, "\nkind: "+k+"\n") })
	})
	return []byte("# " + m.about + "\n#\n# Made from deployment/chart/tendril by `make manifests`: change it there.\n---\n" + strings.Join(documents, "---\n")), nil
}

// Plain returns the plain manifests by file name, as they stand in
// deployment/manifests.
func Plain(root string) (map[string][]byte, error) {
	out := map[string][]byte{}
	for _, name := range slices.Sorted(maps.Keys(plain)) {
		text, err := plain[name].text(root)
		if err != nil {
			return nil, fmt.Errorf("make %s: %w", name, err)
		}
		out[name] = text
	}
	return out, nil
}
