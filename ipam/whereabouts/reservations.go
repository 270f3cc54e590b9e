package whereabouts

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
)

// Reservations takes addresses in the eyes of whereabouts, while both run: a
// kube.Peer. whereabouts does not hand out an address whose reservation is
// another pod's, unless its enable_overlapping_ranges is false. Its reconciler has
// to be off meanwhile: no pod is behind these reservations.
type Reservations struct {
	client    rest.Interface
	namespace string
	podRef    string

	mu sync.Mutex // guards the fields below
	// taken is what the pools had when they were read.
	taken map[spaced]bool
	read  time.Time
}

// codecs decode what the API server says of its own, as those of package ipam/kube
// and for the same reason.
var codecs = func() runtime.NegotiatedSerializer {
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	return serializer.NewCodecFactory(scheme).WithoutConversion()
}()

// NewReservations returns a client of the namespace in which whereabouts keeps
// its objects. node is the name of this node.
func NewReservations(config *rest.Config, namespace, node string) (*Reservations, error) {
	c := rest.CopyConfig(config)
	c.GroupVersion = &schema.GroupVersion{Group: "whereabouts.cni.cncf.io", Version: "v1alpha1"}
	c.APIPath = "/apis"
	c.NegotiatedSerializer = codecs
	c.ContentType, c.AcceptContentTypes = "application/json", "application/json"
	c.QPS = -1
	client, err := rest.RESTClientFor(c)
	if err != nil {
		return nil, fmt.Errorf("make a client of whereabouts: %w", err)
	}
	return &Reservations{client: client, namespace: namespace, podRef: "tendril/" + node}, nil
}

type reservation struct {
	APIVersion string            `json:"apiVersion"`
	Kind       string            `json:"kind"`
	Metadata   map[string]string `json:"metadata"`
	Spec       struct {
		PodRef string `json:"podref"`
	} `json:"spec"`
}

const reservationResource = "overlappingrangeipreservations"

// Take makes the reservation of an address this node's, and says whether it is. One
// that a pool has for a pod of whereabouts is that pod's, with a reservation or
// without.
func (r *Reservations) Take(ctx context.Context, space string, a netip.Addr) (bool, error) {
	name := ReservationName(space, a)
	out := reservation{APIVersion: "whereabouts.cni.cncf.io/v1alpha1", Kind: "OverlappingRangeIPReservation", Metadata: map[string]string{"name": name}}
	out.Spec.PodRef = r.podRef
	data, err := json.Marshal(out)
	if err != nil {
		return false, err
	}
	if old, err := r.allocated(ctx, space, a); err != nil || old {
		return false, err
	}
	err = r.client.Post().Namespace(r.namespace).Resource(reservationResource).MaxRetries(0).Body(data).Do(ctx).Error()
	if err == nil {
		return true, nil
	}
	// Whatever the answer was: whose it is now is what counts.
	owner, readErr := r.owner(ctx, name)
	if readErr != nil {
		return false, readErr
	}
	if owner == "" {
		return false, fmt.Errorf("reserve %s with whereabouts: %w", a, err)
	}
	return owner == r.podRef, nil
}

// Give removes the reservation of an address if it is this node's.
func (r *Reservations) Give(ctx context.Context, space string, a netip.Addr) error {
	name := ReservationName(space, a)
	owner, err := r.owner(ctx, name)
	if err != nil || owner != r.podRef {
		return err
	}
	err = r.client.Delete().Namespace(r.namespace).Resource(reservationResource).Name(name).Do(ctx).Error()
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("give %s back with whereabouts: %w", a, err)
	}
	return nil
}

// owner is the podref of a reservation, empty when there is none.
func (r *Reservations) owner(ctx context.Context, name string) (string, error) {
	data, err := answer(r.client.Get().Namespace(r.namespace).Resource(reservationResource).Name(name).Do(ctx))
	if apierrors.IsNotFound(err) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read reservation %s of whereabouts: %w", name, err)
	}
	var out struct {
		Spec struct {
			PodRef string `json:"podref"`
		} `json:"spec"`
	}
	if err := json.Unmarshal(data, &out); err != nil {
		return "", fmt.Errorf("decode reservation %s of whereabouts: %w", name, err)
	}
	return out.Spec.PodRef, nil
}

// answer is what the API server said; why it refused is in the body, which Raw does not
// read.
func answer(r rest.Result) ([]byte, error) {
	data, err := r.Raw()
	if err != nil {
		return nil, r.Error()
	}
	return data, nil
}
