package kube

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tendril-cni/tendril/vf"
	"github.com/tendril-cni/tendril/vf/v1alpha1"
)

// fieldManager names the daemon to server-side apply.
const fieldManager = "tendrild"

// lastRetry is the longest time between two tries of a write that fails.
const lastRetry = 30 * time.Second

// write keeps the API server's copy as new as Interval allows.
func (a *Adapter) write(ctx context.Context) {
	w := writer{adapter: a}
	for failed := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-a.dirty:
		}
		pause := a.opts.Interval
		if err := w.write(ctx); err != nil && ctx.Err() == nil {
			a.log.Warn("state of the node's VFs is not written yet", "node", a.node, "error", err)
			failed++
			pause = min(pause<<min(failed, 10), lastRetry)
			a.wake()
		} else {
			failed = 0
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// writer remembers what it wrote.
type writer struct {
	adapter *Adapter
	last    *v1alpha1.NodeVFStateStatus
	text    string
	// looked is when the object was last seen to be there.
	looked time.Time
	// node is the Node object that all this is about.
	node types.UID
	// tainted: this process put the taint there. settled: it saw a settled state.
	tainted, settled bool
}

// lookEvery is after how many intervals the object is looked for although nothing
// is to be written: nobody tells when it is deleted.
const lookEvery = 300

// follow begins anew with a Node object that was deleted and made again.
func (w *writer) follow() {
	if now := w.adapter.uid(); now != "" && now != w.node {
		*w = writer{adapter: w.adapter, node: now}
	}
}

// write writes what changed since the last time.
func (w *writer) write(ctx context.Context) error {
	a := w.adapter
	a.mu.Lock()
	state, mine, refused := a.state, a.mine, a.refused
	a.mu.Unlock()
	if state == nil || state.Snapshot.Generation == 0 {
		return nil
	}
	w.follow()
	if err := w.taint(ctx, state); err != nil {
		return err
	}
	if w.last == nil || time.Since(w.looked) > lookEvery*a.opts.Interval {
		if err := w.begin(ctx); err != nil {
			return err
		}
	}
	status := Status(*state, policies(mine), refused)
	for i := range status.Policies {
		for _, k := range mine {
			if k.policy.Name == status.Policies[i].Name {
				status.Policies[i].Generation = k.generation
			}
		}
	}
	transition(&status, w.last)
	text, err := json.Marshal(status)
	if err != nil || string(text) == w.text {
		return err
	}
	if err := w.apply(ctx, status); err != nil {
		return err
	}
	w.last, w.text = &status, string(text)
	return nil
}

func policies(list []known) (out []vf.Policy) {
	for _, k := range list {
		out = append(out, k.policy)
	}
	return out
}

// begin makes the object, if there is none, as the Node's own, so that it goes
// with the Node; and learns since when conditions hold. One that belongs to a
// former Node of that name becomes this one's, before it goes with the other.
func (w *writer) begin(ctx context.Context) error {
	a := w.adapter
	states := a.dynamic.Resource(v1alpha1.NodeVFStates)
	u, err := states.Get(ctx, a.node, metav1.GetOptions{})
	if absent := apierrors.IsNotFound(err); absent || err == nil && !a.owns(u) {
		object := &unstructured.Unstructured{Object: map[string]any{}}
		object.SetGroupVersionKind(v1alpha1.KindNodeState)
		object.SetName(a.node)
		object.SetOwnerReferences(a.owner())
		u, err = states.Apply(ctx, a.node, object, metav1.ApplyOptions{FieldManager: fieldManager, Force: true})
		if absent {
			w.text = "" // what was written before is gone
		}
	}
	if err != nil {
		return fmt.Errorf("make NodeVFState %s: %w", a.node, err)
	}
	w.looked = time.Now()
	var n v1alpha1.NodeVFState
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &n); err != nil {
		return fmt.Errorf("read NodeVFState %s: %w", a.node, err)
	}
	w.last = &n.Status
	return nil
}

// owner is the Node; none while it is not known.
func (a *Adapter) owner() []metav1.OwnerReference {
	uid := a.uid()
	if uid == "" {
		return nil
	}
	return []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: a.node, UID: uid}}
}

// owns reports whether the object goes with the Node, if that is known.
func (a *Adapter) owns(u *unstructured.Unstructured) bool {
	uid := a.uid()
	return uid == "" || slices.ContainsFunc(u.GetOwnerReferences(), func(o metav1.OwnerReference) bool { return o.UID == uid })
}

func (w *writer) apply(ctx context.Context, status v1alpha1.NodeVFStateStatus) error {
	a := w.adapter
	object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&v1alpha1.NodeVFState{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: v1alpha1.KindNodeState.Kind},
		ObjectMeta: metav1.ObjectMeta{Name: a.node}, Status: status,
	})
	if err != nil {
		return fmt.Errorf("write NodeVFState %s: %w", a.node, err)
	}
	unstructured.RemoveNestedField(object, "metadata", "creationTimestamp")
	_, err = a.dynamic.Resource(v1alpha1.NodeVFStates).ApplyStatus(ctx, a.node, &unstructured.Unstructured{Object: object},
		metav1.ApplyOptions{FieldManager: fieldManager, Force: true})
	if apierrors.IsNotFound(err) {
		w.last, w.text = nil, "" // somebody deleted it: make it again
	}
	if err != nil {
		return fmt.Errorf("write NodeVFState %s: %w", a.node, err)
	}
	return nil
}

// transition keeps the time since when a condition has its status.
func transition(now, last *v1alpha1.NodeVFStateStatus) {
	for i := range now.Conditions {
		c := &now.Conditions[i]
		if old := meta.FindStatusCondition(last.Conditions, c.Type); old != nil && old.Status == c.Status {
			c.LastTransitionTime = old.LastTransitionTime
		} else {
			c.LastTransitionTime = metav1.Now().Rfc3339Copy()
		}
	}
}

// Status turns a state into the object's status. Times are left zero. refused are
// the policies for the node that are not valid.
func Status(s vf.State, policies []vf.Policy, refused []v1alpha1.PolicyState) v1alpha1.NodeVFStateStatus {
	out := v1alpha1.NodeVFStateStatus{Policies: slices.Clone(refused)}
	for _, q := range policies {
		v := s.Of(q)
		out.Policies = append(out.Policies, v1alpha1.PolicyState{
			Name: q.Name, Ready: v.Ready(), Reason: string(v.Reason), Message: v.Message,
		})
	}
	slices.SortFunc(out.Policies, func(x, y v1alpha1.PolicyState) int { return strings.Compare(x.Name, y.Name) })
	for _, p := range s.Snapshot.PFs {
		if p.TotalVFs > 0 {
			out.PFs = append(out.PFs, pfState(s, p))
		}
	}
	out.Conditions = []metav1.Condition{ready(overall(s, policies), refused)}
	return out
}

// overall is the verdict about all policies, those included that the state was not
// made for.
func overall(s vf.State, policies []vf.Policy) vf.Verdict {
	v := s.Verdict()
	for _, q := range policies {
		if one := s.Of(q); v.Ready() && one.Reason == vf.Applying {
			return vf.Verdict{Reason: one.Reason, Message: fmt.Sprintf("policy %s: %s", q.Name, one.Message)}
		}
	}
	return v
}

func ready(v vf.Verdict, refused []v1alpha1.PolicyState) metav1.Condition {
	if len(refused) > 0 && v.Ready() {
		v = vf.Verdict{Reason: vf.Refused, Message: refused[0].Message}
	}
	c := metav1.Condition{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: string(v.Reason), Message: v.Message}
	if v.Ready() {
		c.Status = metav1.ConditionTrue
	}
	return c
}

func pfState(s vf.State, p vf.PF) v1alpha1.PFState {
	out := v1alpha1.PFState{
		Address: p.Addr.String(), Name: p.Netdev, AltNames: p.AltNames, Vendor: p.Vendor, Device: p.Device, Driver: p.Driver,
		NUMANode: p.NUMANode, TotalVFs: p.TotalVFs, NumVFs: p.NumVFs, LinkUp: p.LinkUp, MadeByTendril: s.Made[p.Addr],
	}
	for _, v := range s.Snapshot.Of(p.Addr) {
		st := v1alpha1.VFState{Index: v.Index, Address: v.Addr.String(), Driver: v.Driver, Unfit: s.Unfit[v.Addr]}
		i, ok := slices.BinarySearchFunc(s.Assignments, v, func(a vf.Assignment, v vf.VF) int {
			return cmp.Or(a.PF.Compare(v.PF), cmp.Compare(a.Index, v.Index))
		})
		if ok {
			st.Policy, st.Resource = s.Assignments[i].Policy, s.Assignments[i].Resource
		}
		out.VFs = append(out.VFs, st)
	}
	return out
}
