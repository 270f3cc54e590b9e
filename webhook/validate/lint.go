package validate

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	nad "github.com/k8snetworkplumbingwg/network-attachment-definition-client/pkg/apis/k8s.cni.cncf.io/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	vfv1alpha1 "github.com/tendril-cni/tendril/vf/v1alpha1"
)

// Object is one decoded object of a file.
type Object struct {
	// Source is where it was read, for people: the file's name and, of a file
	// with several documents, which one from 1.
	Source    string
	Kind      schema.GroupKind
	Namespace string
	Name      string
	// Raw is the object as JSON.
	Raw []byte
}

// Decode reads the objects of a file: YAML or JSON, several documents, lists.
// Blank documents are skipped; one that is no Kubernetes object is an error.
func Decode(source string, data []byte) ([]Object, error) {
	reader := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(data)))
	var out []Object
	for n := 1; ; n++ {
		doc, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		at := source
		if n > 1 {
			at = fmt.Sprintf("%s, document %d", source, n)
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", at, err)
		}
		raw, err := yaml.YAMLToJSON(doc)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", at, err)
		}
		found, err := objectsOf(at, raw)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", at, err)
		}
		out = append(out, found...)
	}
}

func objectsOf(source string, raw []byte) ([]Object, error) {
	if string(raw) == "null" {
		return nil, nil
	}
	var head struct {
		metav1.PartialObjectMetadata
		Items []json.RawMessage `json:"items"`
	}
	if !bytes.HasPrefix(raw, []byte("{")) {
		return nil, fmt.Errorf("%s is no object", short(string(raw)))
	}
	if err := json.Unmarshal(raw, &head); err != nil {
		return nil, err
	}
	if head.Kind == "" {
		return nil, errors.New("an object without kind")
	}
	if head.Items != nil {
		var out []Object
		for _, item := range head.Items {
			more, err := objectsOf(source, item)
			if err != nil {
				return nil, err
			}
			out = append(out, more...)
		}
		return out, nil
	}
	kind := head.GroupVersionKind().GroupKind()
	return []Object{{Source: source, Kind: kind, Namespace: head.Namespace, Name: head.Name, Raw: raw}}, nil
}

// Found is a finding with the place of its object.
type Found struct {
	Source string
	Finding
}

// String returns "<source>: <level> <code>: ...", in one line.
func (f Found) String() string { return fmt.Sprintf("%s: %s %s", f.Source, f.Level, f.Finding) }

// Lint judges objects as admission would, were they all applied: definitions
// among them are seen by the pods among them, before what rules.Networks has.
// Objects without a namespace are judged in the namespace given, definitions that
// the cluster has already as updates. Pod templates of workloads are judged as
// pods.
func Lint(objects []Object, namespace string, rules Rules) []Found {
	present := rules.Networks
	all := &overlay{under: present, own: map[string]*nad.NetworkAttachmentDefinition{}}
	for _, o := range objects {
		if o.Kind == NetworkKind {
			if d, err := decodeNetwork(namespace, o.Raw); err == nil {
				all.own[d.Namespace+"/"+d.Name] = d
			}
		}
	}
	rules.Networks = all
	var out []Found
	for _, o := range objects {
		ns := o.Namespace
		if ns == "" {
			ns = namespace
		}
		for _, f := range rules.lint(o, ns, present) {
			out = append(out, Found{o.Source, f})
		}
	}
	return out
}

func (r Rules) lint(o Object, namespace string, present Networks) []Finding {
	if pod := template(o); pod != nil {
		return Pod(objectName(o.Kind.Kind, namespace, o.Name), namespace, pod, r.Facts)
	}
	var old []byte
	if o.Kind == NetworkKind && present != nil {
		if d := present.Network(namespace, o.Name); d != nil {
			old, _ = json.Marshal(d) // it was JSON
		}
	}
	return append(unserved(o), r.Object(o.Kind, namespace, old, o.Raw)...)
}

// unserved judges what of a VF policy never comes as far as admission: a version
// that the API server does not have, and fields, which it drops or refuses as its
// client wishes. Case counts there, as it does not where JSON is read otherwise.
func unserved(o Object) []Finding {
	var u map[string]any
	if o.Kind != VFPolicyKind || json.Unmarshal(o.Raw, &u) != nil {
		return nil
	}
	l := &list{object: objectName(VFPolicyKind.Kind, "", o.Name)}
	if version := vfv1alpha1.GroupVersion.String(); u["apiVersion"] != version {
		l.add(VFPolicy, Deny, "apiVersion", u["apiVersion"], version)
	}
	// What is of another type is the check's affair.
	strict, _ := runtime.AsStrictDecodingError(runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(u, &vfv1alpha1.VFPolicy{}, true))
	if strict == nil {
		return l.all
	}
	for _, err := range strict.Errors() {
		_, field, _ := strings.Cut(strings.TrimSuffix(err.Error(), `"`), `unknown field "`)
		l.add(VFPolicy, Deny, field, verbatim("given"), "absent: a VFPolicy has no such field")
	}
	return l.all
}

// template returns the pods that a workload makes, nil for any other object. The
// workloads of Kubernetes and those of others that follow them keep it in
// spec.template, a CronJob in spec.jobTemplate.spec.template.
func template(o Object) *corev1.Pod {
	if o.Kind == PodKind {
		return nil
	}
	type withTemplate struct {
		Template *corev1.PodTemplateSpec `json:"template"`
	}
	var w struct {
		Spec struct {
			withTemplate
			JobTemplate struct {
				Spec withTemplate `json:"spec"`
			} `json:"jobTemplate"`
		} `json:"spec"`
	}
	if json.Unmarshal(o.Raw, &w) != nil {
		return nil
	}
	t := w.Spec.Template
	if t == nil {
		t = w.Spec.JobTemplate.Spec.Template
	}
	if t == nil || len(t.Spec.Containers) == 0 {
		return nil
	}
	return &corev1.Pod{ObjectMeta: t.ObjectMeta, Spec: t.Spec}
}

// overlay is definitions of files over those of a cluster.
type overlay struct {
	under Networks
	own   map[string]*nad.NetworkAttachmentDefinition
}

// Network implements Networks.
func (o *overlay) Network(namespace, name string) *nad.NetworkAttachmentDefinition {
	if d := o.own[namespace+"/"+name]; d != nil {
		return d
	}
	if o.under == nil {
		return nil
	}
	return o.under.Network(namespace, name)
}

// Summaries implements Networks.
func (o *overlay) Summaries() []*Summary {
	var out []*Summary
	for _, d := range o.own {
		if s := Summarize(d); s != nil {
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b *Summary) int { return strings.Compare(a.Ref(), b.Ref()) })
	if o.under == nil {
		return out
	}
	for _, s := range o.under.Summaries() {
		if o.own[s.Ref()] == nil {
			out = append(out, s)
		}
	}
	return out
}
