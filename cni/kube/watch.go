package kube

import (
	"context"
	"errors"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/refusal"
)

// plugWorkers is how many pods are plugged at a time: one may have to wait for a
// runtime.
const plugWorkers = 4

// plugTries bounds how often a change that fails is tried in a row; the auditor
// comes back to it later. plugTime bounds one try.
const (
	plugTries = 5
	plugTime  = time.Minute
)

// OnNetworks calls plug for every pod of the node whose networks annotation is
// changed, a few pods at a time and each by one caller, until ctx ends. A change of something else, and a
// new pod, is not one: its ADD looks at the annotation itself. An error is tried
// again, with growing pauses; a refusal.Refusal is not, since it takes another
// change to mend it. OnNetworks may be called once.
func (c *Cache) OnNetworks(ctx context.Context, plug func(context.Context, cni.Pod) error) error {
	queue := workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[string](time.Second, 30*time.Second))
	handle, err := c.pods.AddEventHandler(cache.ResourceEventHandlerFuncs{UpdateFunc: func(old, now any) {
		was, ok1 := old.(*metav1.PartialObjectMetadata)
		is, ok2 := now.(*metav1.PartialObjectMetadata)
		if ok1 && ok2 && was.UID == is.UID && was.Annotations[networksAnnotation] != is.Annotations[networksAnnotation] {
			queue.Add(is.Namespace + "/" + is.Name)
		}
	}})
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, queue.ShutDown)
	defer stop()
	var workers sync.WaitGroup
	for range plugWorkers {
		workers.Go(func() { c.plugAll(ctx, queue, plug) })
	}
	workers.Wait()
	return c.pods.RemoveEventHandler(handle)
}

func (c *Cache) plugAll(ctx context.Context, queue workqueue.TypedRateLimitingInterface[string], plug func(context.Context, cni.Pod) error) {
	for {
		key, shutdown := queue.Get()
		if shutdown {
			return
		}
		err := c.plugPod(ctx, key, plug)
		var refused *refusal.Refusal
		if err == nil || errors.As(err, &refused) || queue.NumRequeues(key)+1 >= plugTries {
			queue.Forget(key)
		} else {
			queue.AddRateLimited(key)
		}
		queue.Done(key)
	}
}

func (c *Cache) plugPod(ctx context.Context, key string, plug func(context.Context, cni.Pod) error) error {
	object, exists, _ := c.pods.GetStore().GetByKey(key)
	if !exists {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, plugTime)
	defer cancel()
	return plug(ctx, podOf(object.(*metav1.PartialObjectMetadata), ""))
}
