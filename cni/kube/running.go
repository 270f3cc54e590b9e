package kube

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/tendril-cni/tendril/cni"
)

// Running says whether the pod runs in a network namespace of its own: its
// containers are started, and it is not on the host's network. over says that it
// never will: it has ended, is being deleted, or is on the host's network. It asks
// the API server, since the cache has no status: it is for the few pods about which
// there is a doubt. A pod that is gone does not run.
func (r *Reporter) Running(ctx context.Context, pod cni.PodRef) (running, over bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	seen := &corev1.Pod{}
	err = r.sink.client.Get().Namespace(pod.Namespace).Resource("pods").Name(pod.Name).Do(ctx).Into(seen)
	if apierrors.IsNotFound(err) {
		return false, true, nil
	}
	if err != nil {
		return false, false, fmt.Errorf("read pod %s: %w", pod, err)
	}
	phase := seen.Status.Phase
	over = phase == corev1.PodSucceeded || phase == corev1.PodFailed || seen.Spec.HostNetwork || seen.DeletionTimestamp != nil
	return phase == corev1.PodRunning && !over, over, nil
}
