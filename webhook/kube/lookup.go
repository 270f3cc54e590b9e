package kube

import (
	"context"
	"sync"
	"time"

	nad "github.com/k8snetworkplumbingwg/network-attachment-definition-client/pkg/apis/k8s.cni.cncf.io/v1"
	nadclient "github.com/k8snetworkplumbingwg/network-attachment-definition-client/pkg/client/clientset/versioned/typed/k8s.cni.cncf.io/v1"
	"golang.org/x/sync/singleflight"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Bounds of live look-ups.
const (
	mostLookups = 8               // at a time
	lookupTime  = 2 * time.Second // for one
	absentFor   = time.Second     // a name that was not there is not asked for again
	mostAbsent  = 10_000          // names that are remembered to be absent
)

// lookup asks the API server for a definition that the watch has not brought: it
// may have been created a moment ago, in one breath with the pod.
type lookup struct {
	client nadclient.NetworkAttachmentDefinitionsGetter
	flight singleflight.Group
	slots  chan struct{}

	mu     sync.Mutex // guards absent
	absent map[string]time.Time
}

func newLookup(client nadclient.NetworkAttachmentDefinitionsGetter) *lookup {
	return &lookup{client: client, slots: make(chan struct{}, mostLookups), absent: map[string]time.Time{}}
}

// ask returns the definition, nil when it does not exist.
func (l *lookup) ask(ctx context.Context, namespace, name string) (*nad.NetworkAttachmentDefinition, error) {
	key := namespace + "/" + name
	if l.recentlyAbsent(key) {
		return nil, nil
	}
	// The request is shared, so it must not end with the first one's context.
	result := l.flight.DoChan(key, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookupTime)
		defer cancel()
		return l.get(ctx, namespace, name)
	})
	select {
	case r := <-result:
		if r.Err != nil {
			return nil, r.Err
		}
		d, _ := r.Val.(*nad.NetworkAttachmentDefinition)
		return d, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *lookup) get(ctx context.Context, namespace, name string) (*nad.NetworkAttachmentDefinition, error) {
	select {
	case l.slots <- struct{}{}:
		defer func() { <-l.slots }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	d, err := l.client.NetworkAttachmentDefinitions(namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		l.remember(namespace + "/" + name)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return d, nil
}

func (l *lookup) recentlyAbsent(key string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	until, has := l.absent[key]
	return has && time.Now().Before(until)
}

func (l *lookup) remember(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.absent) >= mostAbsent {
		clear(l.absent)
	}
	l.absent[key] = time.Now().Add(absentFor)
}

// forget makes a name that was absent be asked for again: it was created.
func (l *lookup) forget(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.absent, key)
}
