package kube_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tendril-cni/tendril/vf"
	"github.com/tendril-cni/tendril/vf/kube"
	"github.com/tendril-cni/tendril/vf/v1alpha1"
	"github.com/tendril-cni/tendril/vf/vftest"
)

// A Node object that is deleted, and made again by its kubelet with the taint under
// which nodes register, is another one: nobody else takes the taint off it, and
// what belongs to the old one goes with the old one.
func TestNodeMadeAgainIsServedAsANewOne(t *testing.T) {
	w := newWorld(t)
	a := w.adapter(kube.Options{})
	a.Report(state(vftest.NewMachine(vftest.Igb()), nil, nil))
	w.eventually("only the other taint", func() bool { return cmp.Equal([]string{"other"}, w.taints()) })
	w.eventually("the state", func() bool { return len(w.state().Status.PFs) == 1 })
	if err := w.nodes.CoreV1().Nodes().Delete(t.Context(), w.node, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	n, err := w.nodes.CoreV1().Nodes().Create(t.Context(), &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: w.node},
		Spec:       corev1.NodeSpec{Taints: []corev1.Taint{{Key: v1alpha1.NotReadyTaint, Effect: corev1.TaintEffectNoSchedule}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w.eventually("no taint", func() bool { return len(w.taints()) == 0 })
	w.eventually("the state belongs to the new Node", func() bool {
		o := w.state().OwnerReferences
		return len(o) == 1 && o[0].UID == n.UID
	})
}

// Nothing of the state changes, so nothing else would bring the object back.
func TestDeletedStateComesBack(t *testing.T) {
	w := newWorld(t)
	a := w.adapter(kube.Options{})
	s := state(vftest.NewMachine(vftest.Igb()), nil, nil)
	a.Report(s)
	w.eventually("the state", func() bool { return len(w.state().Status.PFs) == 1 })
	if err := w.objects.Resource(v1alpha1.NodeVFStates).Delete(t.Context(), w.node, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.eventually("the state again", func() bool { a.Report(s); return len(w.state().Status.PFs) == 1 })
}

// A policy is not ready before a state says so that was made for it: whoever
// waits for it would go on with VFs that are not there.
func TestPolicyIsNotReadyBeforeItWasLookedAt(t *testing.T) {
	w := newWorld(t)
	nic := vftest.Igb()
	nic.VFs, nic.TotalVFs = 0, 7
	m := vftest.NewMachine(nic)
	a := w.adapter(kube.Options{})
	a.Report(state(m, nil, nil))
	w.eventually("the state", func() bool { s, _, _ := w.ready(); return s == "True" })
	if err := w.policy("fast", fast); err != nil {
		t.Fatal(err)
	}
	told := func() []v1alpha1.PolicyState { return w.state().Status.Policies }
	w.eventually("the policy's own state", func() bool { return len(told()) == 1 })
	if p := told()[0]; p.Ready || p.Reason != string(vf.Applying) || p.Generation != 1 {
		t.Errorf("nobody has looked at the policy, and it says %+v", p)
	}
	if s, r, m := w.ready(); s != "False" || r != string(vf.Applying) {
		t.Errorf("nobody has looked at the policy, and the node says %s %s %q", s, r, m)
	}
	a.Report(state(m, a.Policies(), nil))
	w.eventually("what has to be done", func() bool {
		return told()[0].Message != "" && told()[0].Message != "the policy has not been looked at yet"
	})
}
