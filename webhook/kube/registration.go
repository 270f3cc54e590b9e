package kube

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	admissionclient "k8s.io/client-go/kubernetes/typed/admissionregistration/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/tendril-cni/tendril/webhook/certs"
)

// Names in the webhook configurations, which the chart has as well.
const (
	// MutatePods is the webhook that injects.
	MutatePods = "mutate-pods.tendril.dev"
	// AsksCondition is its match condition that follows the control switches.
	AsksCondition = "asks-for-networks"
)

// Registration is the configurations by which the API server calls the webhooks.
// It implements certs.Publisher.
type Registration struct {
	client admissionclient.AdmissionregistrationV1Interface
	// mutating and validating are the configurations' names.
	mutating, validating string
	condition            func() string
}

var _ certs.Publisher = (*Registration)(nil)

// NewRegistration returns the two configurations of these names. condition
// returns the CEL expression for which pods injection is asked, now.
func NewRegistration(client admissionclient.AdmissionregistrationV1Interface, mutating, validating string, condition func() string) *Registration {
	return &Registration{client: client, mutating: mutating, validating: validating, condition: condition}
}

// Publish implements certs.Publisher: it makes every webhook trust bundle and
// injection follow the switches. A nil bundle leaves trust alone, for those whose
// certificate somebody else renews.
func (r *Registration) Publish(ctx context.Context, bundle []byte) error {
	if err := r.publishMutating(ctx, bundle); err != nil {
		return fmt.Errorf("publish in mutating webhook configuration %s: %w", r.mutating, err)
	}
	if err := r.publishValidating(ctx, bundle); err != nil {
		return fmt.Errorf("publish in validating webhook configuration %s: %w", r.validating, err)
	}
	return nil
}

// followPause is the least time between two calls of Follow's function: two releases
// that want different conditions must not answer each other without end while one
// takes the place of the other.
const followPause = time.Second

// Follow calls changed after changes of the configurations, whoever made them, until
// ctx ends, and returns nil then: whoever installs a new release puts in what his
// manifest has, which is neither an authority nor the switches' condition.
func (r *Registration) Follow(ctx context.Context, changed func(), log *slog.Logger) error {
	mutating := informer(r.client.MutatingWebhookConfigurations(), &admissionregistrationv1.MutatingWebhookConfiguration{}, byName(r.mutating),
		func(c *admissionregistrationv1.MutatingWebhookConfiguration) *admissionregistrationv1.MutatingWebhookConfiguration {
			return &admissionregistrationv1.MutatingWebhookConfiguration{ObjectMeta: slimMeta(c.ObjectMeta)}
		})
	validating := informer(r.client.ValidatingWebhookConfigurations(), &admissionregistrationv1.ValidatingWebhookConfiguration{}, byName(r.validating),
		func(c *admissionregistrationv1.ValidatingWebhookConfiguration) *admissionregistrationv1.ValidatingWebhookConfiguration {
			return &admissionregistrationv1.ValidatingWebhookConfiguration{ObjectMeta: slimMeta(c.ObjectMeta)}
		})
	events := make(chan struct{}, 1)
	event := func() {
		select {
		case events <- struct{}{}:
		default: // it will be looked at anyway
		}
	}
	var group sync.WaitGroup
	for _, i := range []cache.SharedIndexInformer{mutating, validating} {
		complain := func(_ context.Context, _ *cache.Reflector, err error) {
			log.Warn("watch interrupted, it will be resumed", "resource", "webhook configurations", "error", err)
		}
		_, err := i.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc: func(any) { event() }, UpdateFunc: func(_, _ any) { event() }, DeleteFunc: func(any) { event() },
		})
		if err = errors.Join(err, i.SetWatchErrorHandlerWithContext(complain)); err != nil {
			return fmt.Errorf("watch webhook configurations: %w", err)
		}
		group.Go(func() { i.RunWithContext(ctx) })
	}
	tell(ctx, events, changed)
	group.Wait()
	return nil
}

// tell calls changed after events, until ctx ends.
func tell(ctx context.Context, events <-chan struct{}, changed func()) {
	for {
		select {
		case <-events:
			changed()
		case <-ctx.Done():
			return
		}
		select {
		case <-time.After(followPause):
		case <-ctx.Done():
			return
		}
	}
}

func (r *Registration) publishMutating(ctx context.Context, bundle []byte) error {
	configurations := r.client.MutatingWebhookConfigurations()
	c, err := configurations.Get(ctx, r.mutating, metav1.GetOptions{})
	if err != nil {
		return err
	}
	var p patch
	for i, w := range c.Webhooks {
		p.trust(i, w.Name, w.ClientConfig.CABundle, bundle)
		if w.Name == MutatePods {
			p.condition(i, w.Name, w.MatchConditions, r.condition())
		}
	}
	return p.send(func(text []byte) error {
		_, err := configurations.Patch(ctx, r.mutating, types.JSONPatchType, text, metav1.PatchOptions{})
		return err
	})
}

func (r *Registration) publishValidating(ctx context.Context, bundle []byte) error {
	configurations := r.client.ValidatingWebhookConfigurations()
	c, err := configurations.Get(ctx, r.validating, metav1.GetOptions{})
	if err != nil {
		return err
	}
	var p patch
	for i, w := range c.Webhooks {
		p.trust(i, w.Name, w.ClientConfig.CABundle, bundle)
	}
	return p.send(func(text []byte) error {
		_, err := configurations.Patch(ctx, r.validating, types.JSONPatchType, text, metav1.PatchOptions{})
		return err
	})
}

// patch is a JSON Patch of single fields: fields that this program is too old to
// know stay as they are.
type patch []step

type step struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value"`
}

// set changes a field of webhook i, which must still be the one of that name.
func (p *patch) set(i int, name, field string, value any) {
	at := fmt.Sprintf("/webhooks/%d", i)
	*p = append(*p, step{"test", at + "/name", name}, step{"add", at + "/" + field, value})
}

func (p *patch) trust(i int, name string, have, want []byte) {
	if want != nil && !bytes.Equal(have, want) {
		p.set(i, name, "clientConfig/caBundle", want)
	}
}

// condition changes the expression that follows the switches; a configuration
// without it was written to have no condition.
func (p *patch) condition(i int, name string, have []admissionregistrationv1.MatchCondition, want string) {
	for j, c := range have {
		if c.Name == AsksCondition && c.Expression != want {
			p.set(i, name, fmt.Sprintf("matchConditions/%d/expression", j), want)
		}
	}
}

func (p patch) send(send func([]byte) error) error {
	if len(p) == 0 {
		return nil
	}
	text, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return send(text)
}
