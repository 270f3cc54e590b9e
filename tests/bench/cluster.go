package main

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/tendril-cni/tendril/tests/bench/host"
)

// cluster has the pods as objects.
type cluster struct{ client kubernetes.Interface }

// object is a Pod.
type object struct{ name, uid string }

// args are CNI_ARGS as containerd and CRI-O give them.
func (o object) args() string {
	return "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=" + o.name + ";K8S_POD_INFRA_CONTAINER_ID=" + o.uid + ";K8S_POD_UID=" + o.uid
}

const namespace = "default"

// statusAnnotation is where a pod's networks are written (NPWG v1.3, section 4.2).
const statusAnnotation = "k8s.v1.cni.cncf.io/network-status"

// create makes n pods of this node.
func (c cluster) create(ctx context.Context, n int) ([]object, error) {
	out := make([]object, n)
	for i := range out {
		p, err := c.client.CoreV1().Pods(namespace).Create(ctx, &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("bench-%d", i)},
			Spec:       corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "c", Image: "none"}}},
		}, metav1.CreateOptions{})
		if err != nil {
			return nil, fmt.Errorf("make pods: %w", err)
		}
		out[i] = object{name: p.Name, uid: string(p.UID)}
	}
	return out, nil
}

// awaitStatus waits until the daemon has written the pod's network-status, which
// it does after the runtime has its answer.
func (c cluster) awaitStatus(ctx context.Context, o object) error {
	return host.Await(ctx, "network-status of "+o.name, func() (bool, error) {
		p, err := c.client.CoreV1().Pods(namespace).Get(ctx, o.name, metav1.GetOptions{})
		return err == nil && p.Annotations[statusAnnotation] != "", err
	})
}
