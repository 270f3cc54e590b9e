package webhook

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"

	nad "github.com/k8snetworkplumbingwg/network-attachment-definition-client/pkg/apis/k8s.cni.cncf.io/v1"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/tendril-cni/tendril/cni/refusal"
	"github.com/tendril-cni/tendril/webhook/inject"
	"github.com/tendril-cni/tendril/webhook/validate"
)

// Cluster is what reviews need to know.
type Cluster interface {
	// Network returns a definition, nil when it does not exist. One that is not
	// known may be asked of the API server, within ctx.
	Network(ctx context.Context, namespace, name string) (*nad.NetworkAttachmentDefinition, error)
	// Facts returns what is known now, from memory.
	Facts() validate.Facts
	// Claimed returns which of resources the claims of a pod bring, from memory.
	Claimed(namespace string, pod *corev1.Pod, resources []string) map[string]bool
}

// Reviewer answers reviews. Its fields are not changed after it is used.
type Reviewer struct {
	Cluster Cluster
	// Options returns the injector's switches as they are now.
	Options func() inject.Options
	// Checks judge the kinds of other domains.
	Checks map[schema.GroupKind]validate.Check
	Log    *slog.Logger
}

// Mutate answers a review of a pod's creation: what its networks need is added.
// Anything but a pod's creation is allowed as it is.
func (r *Reviewer) Mutate(ctx context.Context, req *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	if !isPod(req) || req.Operation != admissionv1.Create {
		return allowed(req)
	}
	pod := &corev1.Pod{}
	if err := json.Unmarshal(req.Object.Raw, pod); err != nil {
		return denied(req, validate.Refused(validate.BadAnnotation, "Pod", err))
	}
	options := r.Options()
	annotations, _ := options.Effective(pod.Labels, pod.Annotations)
	a, bad := r.ask(ctx, req.Namespace, pod, annotations)
	if len(bad) > 0 {
		return denied(req, bad)
	}
	networks, claimed := r.needs(req.Namespace, pod, a)
	out, err := inject.Plan(pod, networks, claimed, options)
	if err != nil {
		return denied(req, validate.Refused(validate.BadPlace, a.object, err))
	}
	return r.patched(req, a.object, out)
}

// asked is what a pod asks for, found in the cluster.
type asked struct {
	object      string
	facts       validate.Facts
	selections  []validate.Selection
	definitions []*nad.NetworkAttachmentDefinition
}

// ask reads the annotations and finds the definitions they name. Findings that
// deny end it.
func (r *Reviewer) ask(ctx context.Context, namespace string, pod *corev1.Pod, annotations map[string]string) (asked, []validate.Finding) {
	a := asked{object: validate.PodObject(namespace, pod), facts: r.Cluster.Facts()}
	var bad []validate.Finding
	if a.selections, bad = validate.Select(a.object, namespace, annotations, a.facts); len(bad) > 0 {
		return a, bad
	}
	var trouble error
	a.definitions, bad = validate.Resolve(a.object, namespace, a.selections, a.facts, func(ns, name string) *nad.NetworkAttachmentDefinition {
		d, err := r.Cluster.Network(ctx, ns, name)
		if err != nil && trouble == nil {
			trouble = fmt.Errorf("look for NetworkAttachmentDefinition %s/%s: %w", ns, name, err)
		}
		return d
	})
	if trouble != nil {
		refused := (&refusal.Refusal{Field: "metadata.annotations[" + validate.NetworksAnnotation + "]", Value: "not checked", Allowed: "a retry: the API server did not answer"}).Because(trouble)
		return a, validate.Refused(validate.NoDefinition, a.object, refused)
	}
	return a, validate.Denied(bad)
}

// needs translates definitions for the injector.
func (r *Reviewer) needs(namespace string, pod *corev1.Pod, a asked) (networks []inject.Network, claimed map[string]bool) {
	var resources []string
	for _, d := range a.definitions {
		if d == nil {
			continue
		}
		n := inject.Network{Ref: d.Namespace + "/" + d.Name, Resources: validate.ResourcesOf(d, a.facts.ResourceKeys), Selector: d.Annotations[inject.SelectorAnnotation]}
		networks, resources = append(networks, n), append(resources, n.Resources...)
	}
	if len(resources) > 0 && len(pod.Spec.ResourceClaims) > 0 {
		claimed = r.Cluster.Claimed(namespace, pod, resources)
	}
	return networks, claimed
}

func (r *Reviewer) patched(req *admissionv1.AdmissionRequest, object string, out inject.Outcome) *admissionv1.AdmissionResponse {
	resp := allowed(req)
	resp.Warnings, resp.AuditAnnotations = lines(out.Warnings), out.Audit
	if len(out.Patch) == 0 {
		return resp
	}
	patch, err := json.Marshal(out.Patch)
	if err != nil {
		// Strings and Kubernetes types always encode.
		return denied(req, validate.Refused(validate.BadPlace, object, err))
	}
	kind := admissionv1.PatchTypeJSONPatch
	resp.Patch, resp.PatchType = patch, &kind
	r.Log.Debug("pod injected", "pod", object, "patch", string(patch))
	return resp
}

// Validate answers a review of any kind: the findings of validate that deny, and
// the others as warnings. A deletion is never denied.
func (r *Reviewer) Validate(ctx context.Context, req *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	found := r.judge(ctx, req)
	if bad := validate.Denied(found); len(bad) > 0 {
		return denied(req, found)
	}
	resp := allowed(req)
	for _, f := range found {
		resp.Warnings = append(resp.Warnings, line(f.String()))
	}
	return resp
}

func (r *Reviewer) judge(ctx context.Context, req *admissionv1.AdmissionRequest) []validate.Finding {
	kind := schema.GroupKind{Group: req.Kind.Group, Kind: req.Kind.Kind}
	changes := req.Operation == admissionv1.Create || req.Operation == admissionv1.Update
	switch {
	case changes && isPod(req):
		return r.pod(ctx, req)
	case changes:
		rules := validate.Rules{Facts: r.Cluster.Facts(), Checks: r.Checks}
		return rules.Object(kind, req.Namespace, req.OldObject.Raw, req.Object.Raw)
	case req.Operation == admissionv1.Delete:
		rules := validate.Rules{Facts: r.Cluster.Facts(), Checks: r.Checks}
		return rules.Gone(kind, req.OldObject.Raw)
	}
	return nil
}

// pod judges a pod. An update is judged when it asks for other networks than
// before: what runs is not called into question by an edit beside it.
func (r *Reviewer) pod(ctx context.Context, req *admissionv1.AdmissionRequest) []validate.Finding {
	pod, old := &corev1.Pod{}, &corev1.Pod{}
	if err := json.Unmarshal(req.Object.Raw, pod); err != nil {
		return validate.Refused(validate.BadAnnotation, "Pod", err)
	}
	if req.Operation == admissionv1.Update {
		if err := json.Unmarshal(req.OldObject.Raw, old); err == nil && sameAsked(old, pod) || pod.DeletionTimestamp != nil {
			return nil
		}
	}
	a, bad := r.ask(ctx, req.Namespace, pod, pod.Annotations)
	if len(bad) > 0 || len(a.selections) == 0 {
		return bad
	}
	return validate.Asked(a.object, req.Namespace, pod, a.selections, a.definitions, a.facts)
}

func sameAsked(a, b *corev1.Pod) bool {
	for _, key := range []string{validate.NetworksAnnotation, validate.DefaultNetworkAnnotation} {
		if a.Annotations[key] != b.Annotations[key] {
			return false
		}
	}
	return true
}

func isPod(req *admissionv1.AdmissionRequest) bool {
	return req.Kind.Group == "" && req.Kind.Kind == "Pod" && req.SubResource == ""
}

func allowed(req *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	return &admissionv1.AdmissionResponse{UID: req.UID, Allowed: true}
}

// denied names every finding that denies, and warns of the others.
func denied(req *admissionv1.AdmissionRequest, found []validate.Finding) *admissionv1.AdmissionResponse {
	var reasons []string
	for _, f := range validate.Denied(found) {
		reasons = append(reasons, f.String())
	}
	resp := &admissionv1.AdmissionResponse{UID: req.UID, Result: &metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusForbidden, Reason: metav1.StatusReasonForbidden, Message: strings.Join(reasons, "\n"),
	}}
	for _, f := range validate.Warned(found) {
		resp.Warnings = append(resp.Warnings, line(f.String()))
	}
	if len(found) > 0 {
		resp.AuditAnnotations = map[string]string{"code": found[0].Code}
	}
	return resp
}

// line cuts a warning to what the API server passes on (256 bytes each).
func line(s string) string {
	const most = 256
	if len(s) > most {
		return strings.ToValidUTF8(s[:most-3], "") + "..."
	}
	return s
}

func lines(all []string) []string {
	var out []string
	for _, s := range all {
		out = append(out, line(s))
	}
	return out
}
