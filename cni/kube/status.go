package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tendril-cni/tendril/cni"
)

// errPodGone: the pod to be written to does not exist any more, or another one
// has its name by now.
var errPodGone = errors.New("pod is gone")

// encodeStatus writes the value of the annotation as Multus does: a JSON array
// whose objects are indented for people.
func encodeStatus(status []cni.NetworkStatus) (string, error) {
	objects := make([]string, len(status))
	for i, s := range status {
		data, err := json.MarshalIndent(s, "", "    ")
		if err != nil {
			return "", fmt.Errorf("encode status of network %s: %w", s.Name, err)
		}
		objects[i] = string(data)
	}
	return "[" + strings.Join(objects, ",") + "]", nil
}

// patch sets the annotation with one request. The UID in it makes the API server
// refuse to change another pod of the same name.
func (r *Reporter) patch(ctx context.Context, pod cni.PodRef, text string) error {
	uid, ok := r.cache.apiUID(pod)
	if !ok {
		// Gone, or the cache is behind: the API server decides.
		uid = types.UID(pod.UID)
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid": uid, "annotations": map[string]string{statusAnnotation: text},
	}})
	if err != nil {
		return fmt.Errorf("encode patch of pod %s: %w", pod, err)
	}
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	pods := r.pods.Namespace(pod.Namespace)
	_, err = pods.Patch(ctx, pod.Name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: component}, "status")
	switch {
	case err == nil:
		return nil
	case apierrors.IsNotFound(err):
		return errPodGone
	case apierrors.IsConflict(err), apierrors.IsInvalid(err):
		// Most often a precondition that failed; the answer does not say which.
		if now, getErr := pods.Get(ctx, pod.Name, metav1.GetOptions{}); apierrors.IsNotFound(getErr) || getErr == nil && now.UID != uid {
			return errPodGone
		}
	}
	return fmt.Errorf("patch status of pod %s: %w", pod, err)
}
