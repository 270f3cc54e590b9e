package inject

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tendril-cni/tendril/cni/refusal"
)

// Options are the injector's switches.
type Options struct {
	// Honor adds to what container 0 asks for already instead of leaving such a
	// resource alone (-honor-resources).
	Honor bool
	// Hugepages puts huge pages into podnetinfo (-injectHugepageDownApi).
	Hugepages bool
	// Injections are annotations for pods with a label.
	Injections []Injection
}

// Injection adds Annotations to pods that have Label with the value true.
type Injection struct {
	Label       string
	Annotations map[string]string
}

// switchesWire is config.json of the ConfigMap nri-control-switches.
type switchesWire struct {
	Features struct {
		Hugepages *bool `json:"enableHugePageDownApi"`
		Honor     *bool `json:"enableHonorExistingResources"`
	} `json:"features"`
	Injections map[string]struct {
		Op    string            `json:"op"`
		Path  string            `json:"path"`
		Value map[string]string `json:"value"`
	} `json:"user-defined-injections"`
}

// With returns o as the control-switch ConfigMap overrides it: text is its
// config.json. What the text does not name stays as in o, and so does everything
// when it does not parse; the error, a refusal.Refusal, then says why. Single
// injections that are not supported are left out and named in the error.
func (o Options) With(text string) (Options, error) {
	const object = `ConfigMap key "config.json"`
	var w switchesWire
	if err := json.Unmarshal([]byte(text), &w); err != nil {
		return o, (&refusal.Refusal{Object: object, Value: fmt.Sprintf("%.60q", text), Allowed: "features and user-defined-injections as JSON"}).Because(err)
	}
	if w.Features.Hugepages != nil {
		o.Hugepages = *w.Features.Hugepages
	}
	if w.Features.Honor != nil {
		o.Honor = *w.Features.Honor
	}
	o.Injections = nil
	var bad error
	for _, label := range slices.Sorted(maps.Keys(w.Injections)) {
		i := w.Injections[label]
		field := "user-defined-injections." + label
		switch {
		case i.Op != "add":
			bad = refusal.New(object, field+".op", i.Op, "add")
		case i.Path != "/metadata/annotations":
			bad = refusal.New(object, field+".path", i.Path, "/metadata/annotations")
		default:
			o.Injections = append(o.Injections, Injection{Label: label, Annotations: i.Value})
		}
	}
	return o, bad
}

// Labels returns the labels that injections look at.
func (o Options) Labels() []string {
	var out []string
	for _, i := range o.Injections {
		out = append(out, i.Label)
	}
	return out
}

// Effective returns the annotations that the pod will have: its own, and over
// them those injected for its labels. changed reports whether any was. Where two
// injections set one key, the label that sorts last wins.
func (o Options) Effective(labels, annotations map[string]string) (out map[string]string, changed bool) {
	out = maps.Clone(annotations)
	for _, i := range o.Injections {
		if !strings.EqualFold(labels[i.Label], "true") {
			continue
		}
		for k, v := range i.Annotations {
			if out == nil {
				out = map[string]string{}
			}
			if before, has := out[k]; !has || before != v {
				out[k], changed = v, true
			}
		}
	}
	return out, changed
}
