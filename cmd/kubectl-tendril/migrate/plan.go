package migrate

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Groups of the objects that are read.
const (
	sriovGroup       = "sriovnetwork.openshift.io"
	whereaboutsGroup = "whereabouts.cni.cncf.io"
)

// Sources are the resources that a cluster is searched for, beside ConfigMaps.
var Sources = []schema.GroupVersionResource{
	{Group: sriovGroup, Version: "v1", Resource: "sriovnetworknodepolicies"},
	{Group: sriovGroup, Version: "v1", Resource: "sriovnetworks"},
	{Group: sriovGroup, Version: "v1", Resource: "sriovibnetworks"},
	{Group: sriovGroup, Version: "v1", Resource: "ovsnetworks"},
	{Group: sriovGroup, Version: "v1", Resource: "sriovnetworkpoolconfigs"},
	{Group: whereaboutsGroup, Version: "v1alpha1", Resource: "ippools"},
}

// Options say how names are translated.
type Options struct {
	// Prefix is what the SR-IOV operator puts before resource names
	// (RESOURCE_PREFIX); pods ask for them with it.
	Prefix string
	// System is the namespace of Tendril's own pods.
	System string
	// Pools and Networks are configurations of the SR-IOV device plugin and of
	// Multus that are in no object.
	Pools, Networks []File
}

// File is a text and where it was read.
type File struct{ Name, Text string }

// Level says what a note means.
type Level string

// The levels.
const (
	// Info: it runs unchanged, or there is something to do by hand.
	Info Level = "note"
	// Changed: it is translated, and not all of it means the same.
	Changed Level = "changed"
	// Left: it is not translated.
	Left Level = "left"
)

// Note is about one source.
type Note struct {
	Level  Level  `json:"level"`
	Object string `json:"object"`
	Says   string `json:"says"`
}

// String returns the note in a line.
func (n Note) String() string { return fmt.Sprintf("%s: %s: %s", n.Level, n.Object, n.Says) }

// Result is what a migration would apply, and what there is to say about it.
type Result struct {
	Objects []*unstructured.Unstructured
	Notes   []Note
}

// Complete reports whether nothing was left out.
func (r Result) Complete() bool {
	return !slices.ContainsFunc(r.Notes, func(n Note) bool { return n.Level == Left })
}

// Plan translates objects: custom resources and ConfigMaps, in any order. Kinds
// that it does not know are passed over.
func Plan(objects []*unstructured.Unstructured, o Options) Result {
	t := &translation{options: o}
	objects = slices.SortedStableFunc(slices.Values(objects), func(a, b *unstructured.Unstructured) int {
		return cmp.Or(cmp.Compare(a.GetKind(), b.GetKind()), cmp.Compare(a.GetNamespace(), b.GetNamespace()), cmp.Compare(a.GetName(), b.GetName()))
	})
	for _, u := range objects {
		t.object(u)
	}
	for _, f := range o.Pools {
		t.pools = append(t.pools, config{f.Name, f.Text})
	}
	for _, f := range o.Networks {
		t.networks = append(t.networks, config{f.Name, f.Text})
	}
	t.finish()
	return t.result
}

type translation struct {
	options Options
	result  Result
	// pools and networks are the sources of the two ConfigMaps.
	pools, networks []config
}

// config is one configuration and where it was found.
type config struct{ source, text string }

func (t *translation) note(level Level, u *unstructured.Unstructured, format string, args ...any) {
	t.result.Notes = append(t.result.Notes, Note{level, name(u), fmt.Sprintf(format, args...)})
}

func name(u *unstructured.Unstructured) string {
	ref := u.GetName()
	if ns := u.GetNamespace(); ns != "" {
		ref = ns + "/" + ref
	}
	return fmt.Sprintf("%s %s", u.GetKind(), ref)
}

func (t *translation) add(u *unstructured.Unstructured) {
	t.result.Objects = append(t.result.Objects, u)
}

func (t *translation) object(u *unstructured.Unstructured) {
	switch group := u.GroupVersionKind().Group; {
	case group == "" && u.GetKind() == "ConfigMap":
		t.configMap(u)
	case group == sriovGroup && u.GetKind() == "SriovNetworkNodePolicy":
		t.policy(u)
	case group == sriovGroup && u.GetKind() == "SriovNetwork":
		t.network(u)
	case group == sriovGroup && u.GetKind() == "SriovNetworkPoolConfig":
		t.note(Info, u, "how many nodes are drained at once is not needed: VFs in use are never changed, policies wait for their pods")
	case group == sriovGroup:
		t.note(Left, u, "Tendril has no networks of this kind; the definition that the operator made of it stays, served by its plugin's executable")
	case group == whereaboutsGroup && u.GetKind() == "IPPool":
		t.pool(u)
	}
}

// pool: definitions of type whereabouts are served as they are, and while its
// objects are there every address is reserved with whereabouts too.
func (t *translation) pool(u *unstructured.Unstructured) {
	allocations, _, _ := unstructured.NestedMap(u.Object, "spec", "allocations")
	t.note(Info, u, "%d addresses are with pods that whereabouts served. Its definitions run unchanged: while its objects are in the cluster tendrild reserves every address with both, so none is given twice; before they are deleted: kubectl tendril whereabouts import --apply", len(allocations))
}

// decode reads an object's spec strictly enough to name fields that are not known.
func decode[T any](u *unstructured.Unstructured) (T, []string, error) {
	var out T
	text, err := json.Marshal(u.Object["spec"])
	if err == nil {
		err = json.Unmarshal(text, &out)
	}
	if err != nil {
		return out, nil, err
	}
	known := map[string]any{}
	back, _ := json.Marshal(out)
	_ = json.Unmarshal(back, &known)
	var other []string
	spec, _ := u.Object["spec"].(map[string]any)
	for key := range spec {
		if _, ok := known[key]; !ok {
			other = append(other, key)
		}
	}
	slices.Sort(other)
	return out, other, nil
}

// ignored notes fields that nothing was made of.
func (t *translation) ignored(u *unstructured.Unstructured, fields []string) {
	if len(fields) > 0 {
		t.note(Changed, u, "fields that are not known and were left out: %s", strings.Join(fields, ", "))
	}
}
