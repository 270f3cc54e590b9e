package kube_test

import (
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"

	"github.com/tendril-cni/tendril/ipam/reclaim"
)

// TestEmptyBlocksAreDeletedUnderTheFeetOfNodes: a block goes when it is long empty
// and no sooner, and a node that comes back to it makes it anew.
func TestEmptyBlocksAreDeletedUnderTheFeetOfNodes(t *testing.T) {
	space := newSpace()
	c := shared(t, space, `"range":"10.0.0.0/28"`)
	client, err := kubernetes.NewForConfig(server.Config(t))
	if err != nil {
		t.Fatal(err)
	}
	b := newBox(t, server.Config(t), "v-"+space)
	_, _ = withNode(t, b)
	b.start(t)
	b.mustAdd(t, c, 1)
	patient := reclaim.New(newClient(t), client, reclaim.Options{Log: quiet()})
	hasty := reclaim.New(newClient(t), client, reclaim.Options{Log: quiet(), EmptyAfter: time.Millisecond})
	once := func(r *reclaim.Reclaimer) {
		t.Helper()
		if err := r.Once(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	exists := func() bool {
		block, err := newClient(t).Get(t.Context(), "10-0-0-0."+space, false)
		if err != nil {
			t.Fatal(err)
		}
		return block != nil
	}
	once(hasty)
	once(hasty)
	if !exists() {
		t.Fatal("a block with an address in use is deleted")
	}
	if err := b.del(pod(1)); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, "the slot is given back", func() bool { return entries(t, space) == 0 })
	once(patient)
	once(patient)
	if !exists() {
		t.Fatal("a block is deleted that was empty for a moment")
	}
	once(hasty)
	eventually(t, 10*time.Second, "the empty block is gone", func() bool { once(hasty); return !exists() })
	if got := b.mustAdd(t, c, 2); got == "" {
		t.Error("no address after the block was deleted")
	}
}
