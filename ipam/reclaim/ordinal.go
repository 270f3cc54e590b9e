package reclaim

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tendril-cni/tendril/ipam/kube"
)

// Outgrown says whether a StatefulSet no longer has the pod of that name. set is
// the StatefulSet that the name points to, nil if there is none.
func Outgrown(set *appsv1.StatefulSet, pod string) bool {
	_, ordinal, ok := ofSet(pod)
	switch {
	case !ok:
		return false // not a name that a StatefulSet gives: not for us to judge
	case set == nil:
		return true
	}
	first, replicas := 0, 1 // the API's defaults
	if set.Spec.Ordinals != nil {
		first = int(set.Spec.Ordinals.Start)
	}
	if set.Spec.Replicas != nil {
		replicas = int(*set.Spec.Replicas)
	}
	return ordinal < first || ordinal >= first+replicas
}

// ofSet splits the name of a StatefulSet's pod.
func ofSet(pod string) (set string, ordinal int, ok bool) {
	at := strings.LastIndexByte(pod, '-')
	if at <= 0 {
		return "", 0, false
	}
	ordinal, err := strconv.Atoi(pod[at+1:])
	return pod[:at], ordinal, err == nil && ordinal >= 0
}

// ordinals deletes the claims of pods that their StatefulSets no longer have and
// that are gone. What they had is reclaimed with their blocks.
func (r *Reclaimer) ordinals(ctx context.Context) error {
	if r.Claims == nil {
		return nil
	}
	all, err := r.Claims.Ordinals(ctx)
	if err != nil {
		return err
	}
	var failed []error
	for _, o := range all {
		gone, err := r.outgrown(ctx, o)
		if err == nil && gone {
			r.Log.Info("IPAMClaim deleted: its StatefulSet no longer has the pod", "claim", o.Namespace+"/"+o.Name, "pod", o.Pod)
			err = r.Claims.Delete(ctx, o)
		}
		failed = append(failed, err)
	}
	return errors.Join(failed...)
}

func (r *Reclaimer) outgrown(ctx context.Context, o kube.Ordinal) (bool, error) {
	name, _, ok := ofSet(o.Pod)
	if !ok {
		return false, nil
	}
	set, err := r.client.AppsV1().StatefulSets(o.Namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		set, err = nil, nil
	}
	if err != nil {
		return false, fmt.Errorf("read StatefulSet %s/%s: %w", o.Namespace, name, err)
	}
	if !Outgrown(set, o.Pod) {
		return false, nil
	}
	_, err = r.client.CoreV1().Pods(o.Namespace).Get(ctx, o.Pod, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("read pod %s/%s: %w", o.Namespace, o.Pod, err)
	}
	return false, nil
}
