package kube_test

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/tendril-cni/tendril/ipam/reclaim"
	"github.com/tendril-cni/tendril/ipam/v1alpha1"
)

// withNode makes the Node object of a box, and its reclaimer.
func withNode(t *testing.T, b *box) (kubernetes.Interface, *reclaim.Reclaimer) {
	t.Helper()
	client, err := kubernetes.NewForConfig(server.Config(t))
	if err != nil {
		t.Fatal(err)
	}
	node, err := client.CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: b.name}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	b.uid = string(node.UID)
	return client, reclaim.New(newClient(t), client, reclaim.Options{Quarantine: 3 * time.Second, Log: quiet()})
}

func TestReclaimOfADeadNodeQuarantinesThenFrees(t *testing.T) {
	space := newSpace()
	c := shared(t, space, `"range":"10.0.0.0/30"`)
	a, b := newBox(t, server.Config(t), "dead-"+space), newBox(t, server.Config(t), "b-"+space)
	client, r := withNode(t, a)
	if _, err := client.CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: b.name}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	b.uid = ""
	a.start(t)
	b.start(t)
	a.mustAdd(t, c, 1)
	a.mustAdd(t, c, 2)
	a.kill()
	if err := r.Once(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := b.add(t.Context(), c, pod(3)); err == nil {
		t.Fatal("a node that is only silent lost its addresses")
	}
	if err := client.CoreV1().Nodes().Delete(t.Context(), a.name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := r.Once(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, 15*time.Second, "another node has the address", func() bool {
		_, err := b.add(t.Context(), c, pod(3))
		return err == nil
	})
	if !b.lease(t, c, pod(3)).Addresses[0].Suspect {
		t.Error("a reclaimed address is not to be probed")
	}
}

func TestInvariant5ANodeThatLivesTakesBackWhatItUses(t *testing.T) {
	space := newSpace()
	c := shared(t, space, `"range":"10.0.0.0/30"`)
	a := newBox(t, server.Config(t), "alive-"+space)
	client, r := withNode(t, a)
	a.start(t)
	want := a.mustAdd(t, c, 1)
	if err := client.CoreV1().Nodes().Delete(t.Context(), a.name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := r.Once(t.Context()); err != nil {
		t.Fatal(err)
	}
	node, err := client.CoreV1().Nodes().Create(context.Background(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: a.name}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	a.node.Identify(string(node.UID))
	eventually(t, 10*time.Second, "the slot is the node's again, under its new uid", func() bool {
		b, err := newClient(t).Get(t.Context(), "10-0-0-0."+space, false)
		if err != nil || b == nil {
			return false
		}
		mine, _ := b.Of(a.name, string(node.UID))
		return mine == 0b10
	})
	if got := a.mustAdd(t, c, 1); got != want {
		t.Errorf("the pod has %s, before %s", got, want)
	}
	other := newBox(t, server.Config(t), "other-"+space).start(t)
	if got := other.mustAdd(t, c, 2); got == want {
		t.Errorf("another pod has %s too", fmt.Sprint(got))
	}
}

// TestInvariant5WhatWasReclaimedIsTakenBackLater: the node learns that an address which
// a pod of it has was reclaimed, and cannot say so at that moment: the API server
// refuses writes, or the daemon is killed. It says so later.
func TestInvariant5WhatWasReclaimedIsTakenBackLater(t *testing.T) {
	for name, killed := range map[string]bool{"refused": false, "refused, then killed": true} {
		t.Run(name, func(t *testing.T) {
			space := newSpace()
			a := newBox(t, server.Config(t), "slow-"+space).start(t)
			a.mustAdd(t, shared(t, space, `"range":"10.0.0.0/30"`), 1)
			a.net.readOnly.Store(true)
			b, err := newClient(t).Get(t.Context(), "10-0-0-0."+space, false)
			if err != nil {
				t.Fatal(err)
			}
			until := metav1.NewTime(time.Now().Add(time.Minute))
			b.Set(v1alpha1.Slot{Slot: 1, Until: &until, Suspect: true, Reason: "its node was gone"})
			if _, err := newClient(t).Write(t.Context(), b); err != nil {
				t.Fatal(err)
			}
			// As often as one change of a block is tried.
			eventually(t, 20*time.Second, "the node knows, and gave up", func() bool { return a.net.refused.Load() >= 3 })
			if killed {
				a.kill()
				a.start(t)
			}
			a.net.readOnly.Store(false)
			eventually(t, 15*time.Second, "the slot is the node's again", func() bool {
				b, err := newClient(t).Get(t.Context(), "10-0-0-0."+space, false)
				if err != nil || b == nil {
					t.Fatal(b, err)
				}
				mine, _ := b.Of(a.name, a.uid)
				return mine == 0b10
			})
			a.mustDel(t, 1)
			eventually(t, 15*time.Second, "the slot is free", func() bool { return entries(t, space) == 0 })
		})
	}
}

// ledgerOf is another allocator that remembers what is ours.
type ledgerOf struct {
	mu   sync.Mutex // guards ours
	ours map[netip.Addr]bool
}

func (l *ledgerOf) Take(_ context.Context, _ string, a netip.Addr) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ours[a] = true
	return true, nil
}

func (l *ledgerOf) Give(_ context.Context, _ string, a netip.Addr) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.ours, a)
	return nil
}

func (l *ledgerOf) has(a string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ours[netip.MustParseAddr(a)]
}

// TestInvariant5WhatIsTakenBackIsNotTheOtherAllocators: between reclaim and taking back
// the address is in use here all the time.
func TestInvariant5WhatIsTakenBackIsNotTheOtherAllocators(t *testing.T) {
	space := newSpace()
	other := &ledgerOf{ours: map[netip.Addr]bool{}}
	a := newBox(t, server.Config(t), "beside-"+space)
	a.options.Peer = other
	a.start(t)
	c := shared(t, space, `"range":"10.0.0.0/24"`)
	a.mustAdd(t, c, 1)
	b, err := newClient(t).Get(t.Context(), "10-0-0-0."+space, false)
	if err != nil {
		t.Fatal(err)
	}
	until := metav1.NewTime(time.Now().Add(time.Minute))
	b.Set(v1alpha1.Slot{Slot: 1, Until: &until, Suspect: true, Reason: "its node was gone"})
	if _, err := newClient(t).Write(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, "the slot is the node's again", func() bool {
		b, err := newClient(t).Get(t.Context(), "10-0-0-0."+space, false)
		if err != nil || b == nil {
			t.Fatal(b, err)
		}
		mine, _ := b.Of(a.name, a.uid)
		return mine == 0b10
	})
	if !other.has("10.0.0.1") {
		t.Error("the other allocator may give the address of a live pod")
	}
	a.mustDel(t, 1)
	eventually(t, 15*time.Second, "it is the other allocator's when the pod is gone", func() bool { return !other.has("10.0.0.1") })
}
