package kube_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/tendril-cni/tendril/ipam"
	"github.com/tendril-cni/tendril/ipam/reclaim"
	"github.com/tendril-cni/tendril/ipam/v1alpha1"
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

// guard puts the policies of the installation that guard blocks into the API server,
// and waits until they hold.
func guard(t *testing.T) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "deployment", "manifests", "controller.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var policies []string
	for doc := range strings.SplitSeq(string(text), "\n---\n") {
		if strings.Contains(doc, "ValidatingAdmissionPolicy") && strings.Contains(doc, "name: addressblocks.tendril.dev\n") {
			policies = append(policies, doc)
		}
	}
	if len(policies) != 2 {
		t.Fatalf("%d policies of blocks in the manifest, want one with its binding", len(policies))
	}
	if err := server.API(t).Apply(t.Context(), strings.Join(policies, "\n---\n")); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, "the policy holds", func() bool {
		b := v1alpha1.New(newSpace(), ipam.CellOf(netip.MustParseAddr("10.0.0.0")))
		b.Set(v1alpha1.Slot{Slot: 1, Claim: "default/probe"})
		b, err := newClient(t).Write(t.Context(), b)
		if err != nil {
			t.Fatal(err)
		}
		return newClient(t).Delete(t.Context(), b) != nil
	})
}

// TestBlockOfForgottenQuarantinesIsDeleted: nobody wanted its addresses for a day. The
// installation's policy lets nobody delete a block that names an address.
func TestBlockOfForgottenQuarantinesIsDeleted(t *testing.T) {
	guard(t)
	client, err := kubernetes.NewForConfig(server.Config(t))
	if err != nil {
		t.Fatal(err)
	}
	b := v1alpha1.New(newSpace(), ipam.CellOf(netip.MustParseAddr("10.0.0.0")))
	until := metav1.NewTime(time.Now().Add(-25 * time.Hour))
	b.Set(v1alpha1.Slot{Slot: 1, Until: &until, Suspect: true, Reason: "its node was gone"})
	if _, err := newClient(t).Write(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	r := reclaim.New(newClient(t), client, reclaim.Options{Log: quiet(), EmptyAfter: time.Millisecond})
	eventually(t, 10*time.Second, "the block is gone", func() bool {
		if err := r.Once(t.Context()); err != nil {
			t.Fatal(err)
		}
		left, err := newClient(t).Get(t.Context(), b.Name, false)
		if err != nil {
			t.Fatal(err)
		}
		return left == nil
	})
}
