package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"

	"github.com/tendril-cni/tendril/ipam/v1alpha1"
)

// codecs decode what the API server says of its own: errors. The objects are read
// as JSON. client-go's scheme would do as well, and bring every API type of
// Kubernetes into the daemon's memory.
var codecs = func() runtime.NegotiatedSerializer {
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	return serializer.NewCodecFactory(scheme).WithoutConversion()
}()

// callTime bounds one call to the API server, unless Options say otherwise.
const callTime = 4 * time.Second

// Blocks reads and writes AddressBlocks. It may be used concurrently.
type Blocks struct {
	client rest.Interface
	calls  time.Duration
}

// NewBlocks returns a client. config is not changed.
func NewBlocks(config *rest.Config) (*Blocks, error) {
	c := rest.CopyConfig(config)
	c.GroupVersion = &schema.GroupVersion{Group: v1alpha1.Group, Version: v1alpha1.Version}
	c.APIPath = "/apis"
	c.NegotiatedSerializer = codecs
	c.ContentType, c.AcceptContentTypes = "application/json", "application/json"
	// Claims are few and somebody waits for each: a limit of our own would only
	// add to the API server's.
	c.QPS = -1
	client, err := rest.RESTClientFor(c)
	if err != nil {
		return nil, fmt.Errorf("make a client of address blocks: %w", err)
	}
	return &Blocks{client: client, calls: callTime}, nil
}

// Get reads a block: by quorum, or from the API server's cache, which may be
// behind. It returns nil when there is none.
func (b *Blocks) Get(ctx context.Context, name string, cached bool) (*v1alpha1.AddressBlock, error) {
	ctx, cancel := context.WithTimeout(ctx, b.calls)
	defer cancel()
	r := b.client.Get().Resource(v1alpha1.Resource).Name(name).MaxRetries(0)
	if cached {
		r = r.Param("resourceVersion", "0")
	}
	out, err := decode(r.Do(ctx))
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read address block %s: %w", name, err)
	}
	return out, nil
}

// Write creates the block when it has no resourceVersion, else updates it on
// condition that it still has that one. It returns the block as written.
func (b *Blocks) Write(ctx context.Context, block *v1alpha1.AddressBlock) (*v1alpha1.AddressBlock, error) {
	ctx, cancel := context.WithTimeout(ctx, b.calls)
	defer cancel()
	data, err := json.Marshal(block)
	if err != nil {
		return nil, fmt.Errorf("encode address block %s: %w", block.Name, err)
	}
	r := b.client.Post()
	if block.ResourceVersion != "" {
		r = b.client.Put().Name(block.Name)
	}
	out, err := decode(r.Resource(v1alpha1.Resource).MaxRetries(0).Body(data).Do(ctx))
	if err != nil {
		return nil, fmt.Errorf("write address block %s: %w", block.Name, err)
	}
	return out, nil
}

// Delete removes the block as it was read: with that uid and resourceVersion. One
// that is gone is fine. It is for controllers.
func (b *Blocks) Delete(ctx context.Context, block *v1alpha1.AddressBlock) error {
	ctx, cancel := context.WithTimeout(ctx, b.calls)
	defer cancel()
	options, err := json.Marshal(metav1.DeleteOptions{
		TypeMeta:      metav1.TypeMeta{APIVersion: "v1", Kind: "DeleteOptions"},
		Preconditions: &metav1.Preconditions{UID: &block.UID, ResourceVersion: &block.ResourceVersion},
	})
	if err != nil {
		return fmt.Errorf("encode deletion of address block %s: %w", block.Name, err)
	}
	err = b.client.Delete().Resource(v1alpha1.Resource).Name(block.Name).MaxRetries(0).Body(options).Do(ctx).Error()
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete address block %s: %w", block.Name, err)
	}
	return nil
}

// List reads every block from the API server's cache, a page at a time. It is for
// controllers and people; nodes do without.
func (b *Blocks) List(ctx context.Context, each func(*v1alpha1.AddressBlock) error) error {
	for next := ""; ; {
		data, err := answer(b.client.Get().Resource(v1alpha1.Resource).
			Param("limit", "500").Param("continue", next).Do(ctx))
		if err != nil {
			return fmt.Errorf("list address blocks: %w", err)
		}
		var page v1alpha1.AddressBlockList
		if err := json.Unmarshal(data, &page); err != nil {
			return fmt.Errorf("decode address blocks: %w", err)
		}
		for i := range page.Items {
			if err := each(&page.Items[i]); err != nil {
				return err
			}
		}
		if next = page.Continue; next == "" {
			return nil
		}
	}
}

// answer is what the API server said. Of a refusal Raw knows the code alone; why is in
// the body, which Error reads.
func answer(r rest.Result) ([]byte, error) {
	data, err := r.Raw()
	if err != nil {
		return nil, r.Error()
	}
	return data, nil
}

func decode(r rest.Result) (*v1alpha1.AddressBlock, error) {
	data, err := answer(r)
	if err != nil {
		return nil, err
	}
	var out v1alpha1.AddressBlock
	if err := json.Unmarshal(data, &out); err != nil {
		return nil, fmt.Errorf("decode: %w", err)
	}
	return &out, nil
}

// outcome is what became of a write.
type outcome int

const (
	written  outcome = iota
	outdated         // somebody else was first, or the block is deleted: nothing was written
	refused          // the API server said no: nothing was written
	unknown          // it may have been written, or may be yet
)

// Outcome of a write by its error: only an answer of the API server that says so
// is proof that nothing was written. An update finds no block when it was deleted
// since it was read.
func outcomeOf(err error, update bool) outcome {
	var status apierrors.APIStatus
	switch {
	case err == nil:
		return written
	case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err), update && apierrors.IsNotFound(err):
		return outdated
	case errors.As(err, &status):
		if code := status.Status().Code; code >= 400 && code < 500 && code != http.StatusRequestTimeout {
			return refused
		}
	}
	return unknown
}
