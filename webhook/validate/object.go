package validate

import (
	"encoding/json"
	"fmt"

	nad "github.com/k8snetworkplumbingwg/network-attachment-definition-client/pkg/apis/k8s.cni.cncf.io/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Kinds that this package knows itself.
var (
	PodKind     = schema.GroupKind{Kind: "Pod"}
	NetworkKind = schema.GroupKind{Group: "k8s.cni.cncf.io", Kind: "NetworkAttachmentDefinition"}
	PolicyKind  = schema.GroupKind{Group: "k8s.cni.cncf.io", Kind: "MultiNetworkPolicy"}
)

// Check judges an object of a kind that another domain owns, as JSON; old is nil
// for a creation, object for a deletion, which may only be warned about. The domain says what is refused, Refused makes
// findings of it.
type Check func(old, object []byte, f Facts) []Finding

// Rules are everything that objects are judged by.
type Rules struct {
	Facts
	// Checks judge the kinds of other domains: VF policies, address ranges.
	Checks map[schema.GroupKind]Check
}

// Refused makes denying findings with one code of the errors of a domain's own
// validator. object names the object where the refusals do not.
func Refused(code, object string, errs ...error) []Finding {
	l := &list{object: object}
	for _, err := range errs {
		if err != nil {
			l.refuse(code, "", err)
		}
	}
	return l.all
}

// Object judges one object of kind, as JSON, in namespace; old is nil unless it
// is an update. Kinds that nobody knows have no findings, and so have objects
// that are being deleted: a finalizer must be able to go.
func (r Rules) Object(kind schema.GroupKind, namespace string, old, object []byte) []Finding {
	var meta metav1.PartialObjectMetadata
	if err := json.Unmarshal(object, &meta); err == nil && meta.DeletionTimestamp != nil {
		return nil
	}
	switch kind {
	case PodKind:
		return r.pod(namespace, object)
	case NetworkKind:
		return r.network(namespace, old, object)
	case PolicyKind:
		found := MultiNetworkPolicy(namespace, object, r.Facts)
		if len(old) > 0 {
			found = Ratchet(MultiNetworkPolicy(namespace, old, r.Facts), found)
		}
		return found
	}
	if check := r.Checks[kind]; check != nil {
		return check(old, object, r.Facts)
	}
	return nil
}

// Gone judges the deletion of an object: nothing is denied.
func (r Rules) Gone(kind schema.GroupKind, old []byte) []Finding {
	if check := r.Checks[kind]; check != nil {
		return Warned(check(old, nil, r.Facts))
	}
	return nil
}

func (r Rules) pod(namespace string, object []byte) []Finding {
	var pod corev1.Pod
	if err := json.Unmarshal(object, &pod); err != nil {
		return unreadable(BadAnnotation, "Pod", err)
	}
	return Pod(PodObject(namespace, &pod), namespace, &pod, r.Facts)
}

func (r Rules) network(namespace string, old, object []byte) []Finding {
	d, err := decodeNetwork(namespace, object)
	if err != nil {
		return unreadable(NotAnObject, NetworkKind.Kind, err)
	}
	if len(old) == 0 {
		return Network(d, r.Facts)
	}
	before, err := decodeNetwork(namespace, old)
	if err != nil {
		return Network(d, r.Facts)
	}
	return NetworkChange(before, d, r.Facts)
}

func decodeNetwork(namespace string, raw []byte) (*nad.NetworkAttachmentDefinition, error) {
	d := &nad.NetworkAttachmentDefinition{}
	if err := json.Unmarshal(raw, d); err != nil {
		return nil, fmt.Errorf("decode definition: %w", err)
	}
	if d.Namespace == "" {
		d.Namespace = namespace
	}
	return d, nil
}

// unreadable is for an object whose JSON is not of its kind; the API server lets
// no such object through.
func unreadable(code, kind string, err error) []Finding {
	r := unwrap(err).In(kind)
	r.Value, r.Allowed = "the object", "JSON of a "+kind
	return []Finding{{code, Deny, r}}
}
