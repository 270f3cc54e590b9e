package reclaim_test

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tendril-cni/tendril/ipam/reclaim"
	"github.com/tendril-cni/tendril/ipam/v1alpha1"
)

func TestOnlyWhatAPersonOrTheCloudSaidIsGone(t *testing.T) {
	node := func(change func(*corev1.Node)) *corev1.Node {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "a", UID: "u1"}}
		change(n)
		return n
	}
	taint := func(key string) func(*corev1.Node) {
		return func(n *corev1.Node) {
			n.Spec.Taints = []corev1.Taint{{Key: key, Effect: corev1.TaintEffectNoExecute}}
		}
	}
	order := func(uid string) func(*corev1.Node) {
		return func(n *corev1.Node) { n.Annotations = map[string]string{v1alpha1.OrderAnnotation: uid} }
	}
	notReady := func(n *corev1.Node) {
		n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionUnknown}}
		n.Spec.Unschedulable = true
	}
	for name, tt := range map[string]struct {
		node *corev1.Node
		uid  string
		want bool
	}{
		"deleted":                          {nil, "u1", true},
		"deleted, uid never known":         {nil, "", true},
		"alive":                            {node(func(*corev1.Node) {}), "u1", false},
		"alive, uid never known":           {node(func(*corev1.Node) {}), "", false},
		"another uid":                      {node(func(*corev1.Node) {}), "u0", true},
		"out of service":                   {node(taint("node.kubernetes.io/out-of-service")), "u1", true},
		"not ready, cordoned":              {node(notReady), "u1", false},
		"taint not-ready":                  {node(taint("node.kubernetes.io/not-ready")), "u1", false},
		"taint unreachable":                {node(taint("node.kubernetes.io/unreachable")), "u1", false},
		"ordered":                          {node(order("u1")), "u1", true},
		"ordered for another of that name": {node(order("u0")), "u1", false},
	} {
		t.Run(name, func(t *testing.T) {
			reason, got := reclaim.Gone(tt.node, tt.uid)
			if got != tt.want || got != (reason != "") {
				t.Errorf("gone %v (%s), want %v", got, reason, tt.want)
			}
		})
	}
}

func TestOnlyOrdinalsThatASetNoLongerHasAreOutgrown(t *testing.T) {
	set := func(start, replicas int32) *appsv1.StatefulSet {
		return &appsv1.StatefulSet{Spec: appsv1.StatefulSetSpec{Replicas: &replicas, Ordinals: &appsv1.StatefulSetOrdinals{Start: start}}}
	}
	for name, tt := range map[string]struct {
		set  *appsv1.StatefulSet
		pod  string
		want bool
	}{
		"within":                  {set(0, 3), "db-2", false},
		"scaled down":             {set(0, 2), "db-2", true},
		"to zero":                 {set(0, 0), "db-0", true},
		"ordinals from 5":         {set(5, 2), "db-6", false},
		"below the first":         {set(5, 2), "db-4", true},
		"set deleted":             {nil, "db-0", true},
		"defaults":                {&appsv1.StatefulSet{}, "db-0", false},
		"no pod of a StatefulSet": {nil, "web", false},
		"of a Deployment":         {nil, "web-7d4b9c-x2x", false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := reclaim.Outgrown(tt.set, tt.pod); got != tt.want {
				t.Errorf("outgrown %v, want %v", got, tt.want)
			}
		})
	}
}
