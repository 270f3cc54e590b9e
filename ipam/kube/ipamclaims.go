package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
)

// ipamClaim is what Tendril reads and writes of an IPAMClaim (k8s.cni.cncf.io
// v1alpha1, of the Network Plumbing Working Group).
type ipamClaim struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		Network   string `json:"network"`
		Interface string `json:"interface"`
	} `json:"spec"`
	Status struct {
		// IPs are CIDRs.
		IPs        []string           `json:"ips"`
		OwnerPod   *ownerPod          `json:"ownerPod,omitempty"`
		Conditions []metav1.Condition `json:"conditions,omitempty"`
	} `json:"status,omitempty"`
}

type ownerPod struct {
	Name string `json:"name"`
}

// IPAMClaims reads and writes IPAMClaims. It may be used concurrently.
type IPAMClaims struct {
	client rest.Interface
	calls  time.Duration
}

// NewIPAMClaims returns a client. config is not changed.
func NewIPAMClaims(config *rest.Config) (*IPAMClaims, error) {
	c := rest.CopyConfig(config)
	c.GroupVersion = &schema.GroupVersion{Group: "k8s.cni.cncf.io", Version: "v1alpha1"}
	c.APIPath = "/apis"
	c.NegotiatedSerializer = codecs
	c.ContentType, c.AcceptContentTypes = "application/json", "application/json"
	c.QPS = -1
	client, err := rest.RESTClientFor(c)
	if err != nil {
		return nil, fmt.Errorf("make a client of IPAMClaims: %w", err)
	}
	return &IPAMClaims{client: client, calls: callTime}, nil
}

// UID reads by quorum the uid of a claim, empty when there is none.
func (c *IPAMClaims) UID(ctx context.Context, namespace, name string) (string, error) {
	claim, err := c.get(ctx, namespace, name)
	if claim == nil {
		return "", err
	}
	return string(claim.UID), nil
}

// get returns nil when there is none.
func (c *IPAMClaims) get(ctx context.Context, namespace, name string) (*ipamClaim, error) {
	claim, err := c.do(ctx, c.client.Get().Namespace(namespace).Name(name))
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read IPAMClaim %s/%s: %w", namespace, name, err)
	}
	return claim, nil
}

// create makes a claim; one that is there already is as good.
func (c *IPAMClaims) create(ctx context.Context, claim *ipamClaim) error {
	claim.TypeMeta = metav1.TypeMeta{APIVersion: "k8s.cni.cncf.io/v1alpha1", Kind: "IPAMClaim"}
	data, err := json.Marshal(claim)
	if err != nil {
		return err
	}
	_, err = c.do(ctx, c.client.Post().Namespace(claim.Namespace).Body(data))
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create IPAMClaim %s/%s: %w", claim.Namespace, claim.Name, err)
	}
	return nil
}

// podAnnotation on a claim that Tendril made is the name of the StatefulSet's pod
// that it is for; managedLabel marks such claims.
const (
	podAnnotation = "tendril.dev/pod"
	managedLabel  = "app.kubernetes.io/managed-by"
)

// Ordinal is a claim that Tendril made for a pod of a StatefulSet.
type Ordinal struct{ Namespace, Name, UID, Pod string }

// Ordinals lists the claims that Tendril made. It is for the controller.
func (c *IPAMClaims) Ordinals(ctx context.Context) ([]Ordinal, error) {
	data, err := answer(c.client.Get().Resource("ipamclaims").Param("labelSelector", managedLabel+"=tendril").Do(ctx))
	if err != nil {
		return nil, fmt.Errorf("list IPAMClaims: %w", err)
	}
	var list struct {
		Items []ipamClaim `json:"items"`
	}
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("decode IPAMClaims: %w", err)
	}
	var out []Ordinal
	for _, i := range list.Items {
		out = append(out, Ordinal{i.Namespace, i.Name, string(i.UID), i.Annotations[podAnnotation]})
	}
	return out, nil
}

// Delete removes the very claim that o is. One that is gone is fine.
func (c *IPAMClaims) Delete(ctx context.Context, o Ordinal) error {
	uid := types.UID(o.UID)
	options, err := json.Marshal(metav1.DeleteOptions{
		TypeMeta:      metav1.TypeMeta{APIVersion: "v1", Kind: "DeleteOptions"},
		Preconditions: &metav1.Preconditions{UID: &uid},
	})
	if err != nil {
		return err
	}
	err = c.client.Delete().Namespace(o.Namespace).Resource("ipamclaims").Name(o.Name).Body(options).Do(ctx).Error()
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete IPAMClaim %s/%s: %w", o.Namespace, o.Name, err)
	}
	return nil
}

// writeStatus replaces the status, on condition of the claim's resourceVersion.
func (c *IPAMClaims) writeStatus(ctx context.Context, claim *ipamClaim) (*ipamClaim, error) {
	data, err := json.Marshal(claim)
	if err != nil {
		return nil, err
	}
	out, err := c.do(ctx, c.client.Put().Namespace(claim.Namespace).Name(claim.Name).SubResource("status").Body(data))
	if err != nil {
		return nil, fmt.Errorf("write status of IPAMClaim %s/%s: %w", claim.Namespace, claim.Name, err)
	}
	return out, nil
}

func (c *IPAMClaims) do(ctx context.Context, r *rest.Request) (*ipamClaim, error) {
	ctx, cancel := context.WithTimeout(ctx, c.calls)
	defer cancel()
	data, err := answer(r.Resource("ipamclaims").MaxRetries(0).Do(ctx))
	if err != nil {
		return nil, err
	}
	var out ipamClaim
	if err := json.Unmarshal(data, &out); err != nil {
		return nil, fmt.Errorf("decode: %w", err)
	}
	return &out, nil
}
