package kube_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"github.com/tendril-cni/tendril/cni/refusal"
	"github.com/tendril-cni/tendril/ipam"
	"github.com/tendril-cni/tendril/ipam/kube"
	"github.com/tendril-cni/tendril/ipam/reclaim"
)

func ipamClaims(t *testing.T) dynamic.ResourceInterface {
	t.Helper()
	client, err := dynamic.NewForConfig(server.Config(t))
	if err != nil {
		t.Fatal(err)
	}
	return client.Resource(schema.GroupVersionResource{Group: "k8s.cni.cncf.io", Version: "v1alpha1", Resource: "ipamclaims"}).Namespace("default")
}

func makeIPAMClaim(t *testing.T, name string) {
	t.Helper()
	_, err := ipamClaims(t).Create(t.Context(), &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "k8s.cni.cncf.io/v1alpha1", "kind": "IPAMClaim", "metadata": map[string]any{"name": name},
		"spec": map[string]any{"network": "n", "interface": "net1"},
	}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

func TestIPAMClaimKeepsItsAddressOverPodsAndNodes(t *testing.T) {
	space := newSpace()
	c := shared(t, space, `"ipRanges":[{"range":"10.0.0.0/24"},{"range":"fd00::/64"}]`)
	makeIPAMClaim(t, space)
	a, b := newBox(t, server.Config(t), "a").start(t), newBox(t, server.Config(t), "b").start(t)
	source, target := pod(1), pod(2)
	source.Claim, target.Claim = "default/"+space, "default/"+space
	one, err := a.add(t.Context(), c, source)
	if err != nil {
		t.Fatal(err)
	}
	// A virtual machine that migrates: both pods at once.
	two, err := b.add(t.Context(), c, target)
	if err != nil || fmt.Sprint(one) != fmt.Sprint(two) {
		t.Fatalf("target has %v, %v, source %v", two, err, one)
	}
	claim, err := ipamClaims(t).Get(t.Context(), space, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if ips, _, _ := unstructured.NestedStringSlice(claim.Object, "status", "ips"); fmt.Sprint(ips) != "[10.0.0.1/24 fd00::1/64]" {
		t.Errorf("status.ips %v", ips)
	}
	_ = a.del(source)
	_ = b.del(target)
	if got := entries(t, space); got != 2 {
		t.Errorf("%d slots after both pods are gone, want the claim's 2", got)
	}
	if got := a.mustAdd(t, c, 3); got == fmt.Sprint(one) {
		t.Errorf("a stranger has %s, the claim's", got)
	}
	_, err = a.add(t.Context(), c, pod(4), "10.0.0.1")
	var r *refusal.Refusal
	if !errors.As(err, &r) || !strings.Contains(r.Allowed, "held by default/"+space) {
		t.Errorf("asking for the claim's address: %v", err)
	}
}

// TestIPAMClaimOfTwoSetsOfOneRange: a claim has as many addresses as the network
// has sets, and no more, though each of them lies in all of the sets.
func TestIPAMClaimOfTwoSetsOfOneRange(t *testing.T) {
	space := newSpace()
	c := shared(t, space, `"ipRanges":[{"range":"10.0.0.0/24"},{"range":"10.0.0.0/24"}]`)
	makeIPAMClaim(t, space)
	a, b := newBox(t, server.Config(t), "a").start(t), newBox(t, server.Config(t), "b").start(t)
	for i, node := range []*box{a, b, a} {
		o := pod(i)
		o.Claim = "default/" + space
		if got, err := node.add(t.Context(), c, o); err != nil || fmt.Sprint(got) != "[10.0.0.1 10.0.0.2]" {
			t.Errorf("pod %d has %v, %v", i, got, err)
		}
	}
	if got := entries(t, space); got != 2 {
		t.Errorf("%d addresses are taken for a claim of 2", got)
	}
}

func TestIPAMClaimThatIsMissingIsRefused(t *testing.T) {
	c := shared(t, newSpace(), `"range":"10.0.0.0/24"`)
	a := newBox(t, server.Config(t), "a").start(t)
	o := pod(1)
	o.Claim = "default/nobody"
	_, err := a.add(t.Context(), c, o)
	var r *refusal.Refusal
	if !errors.As(err, &r) || r.Field != "ipam-claim-reference" {
		t.Errorf("got %v", err)
	}
}

func TestOrdinalOfAStatefulSetKeepsItsAddress(t *testing.T) {
	space := newSpace()
	c, err := ipam.Parse([]byte(`{"type":"tendril","network":"` + space + `","sticky":true,"ranges":[{"subnet":"10.0.0.0/24"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	a, b := newBox(t, server.Config(t), "a").start(t), newBox(t, server.Config(t), "b").start(t)
	first, later := pod(1), pod(2)
	first.Pod, later.Pod = "default/db-0", "default/db-0"
	first.Claim = ipam.StickyClaim("default", "db-0", space, "net1")
	later.Claim = first.Claim
	one, err := a.add(t.Context(), c, first)
	if err != nil {
		t.Fatal(err)
	}
	_ = a.del(first)
	two, err := b.add(t.Context(), c, later)
	if err != nil || fmt.Sprint(one) != fmt.Sprint(two) {
		t.Errorf("on another node it has %v, %v, before %v", two, err, one)
	}
	_ = b.del(later)
	// There is no StatefulSet db, and no pod db-0: the ordinal is gone.
	r := claimsReclaimer(t)
	if err := r.Once(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, "the slot is free after quarantine", func() bool { return entries(t, space) == 0 })
}

func TestSlotsOfAClaimThatIsGoneAreReclaimed(t *testing.T) {
	reclaimClaim(t, newSpace())
}

// TestSlotsOfAClaimWithALongNameAreReclaimed: the reason has room for 256 characters.
func TestSlotsOfAClaimWithALongNameAreReclaimed(t *testing.T) {
	reclaimClaim(t, strings.Repeat("long-", 50)+"x")
}

func reclaimClaim(t *testing.T, name string) {
	t.Helper()
	space := newSpace()
	c := shared(t, space, `"range":"10.0.0.0/30"`)
	makeIPAMClaim(t, name)
	a := newBox(t, server.Config(t), "a").start(t)
	o := pod(1)
	o.Claim = "default/" + name
	if _, err := a.add(t.Context(), c, o); err != nil {
		t.Fatal(err)
	}
	_ = a.del(o)
	// Nodes of other tests have no Node object here: only this space counts.
	r := claimsReclaimer(t)
	if err := r.Once(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := entries(t, space); got != 1 {
		t.Fatalf("%d slots while the claim is there", got)
	}
	if err := ipamClaims(t).Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := r.Once(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, "the slot is free after quarantine", func() bool { return entries(t, space) == 0 })
}

// TestClaimMadeAnewLeavesNothingBehind: a virtual machine is deleted and made again
// under its name before anybody looked. What the first claim had is reclaimed.
func TestClaimMadeAnewLeavesNothingBehind(t *testing.T) {
	space := newSpace()
	c := shared(t, space, `"range":"10.0.0.0/24"`)
	a := newBox(t, server.Config(t), "a").start(t)
	var got []netip.Addr
	for i := range 2 {
		makeIPAMClaim(t, space)
		o := pod(i)
		o.Claim = "default/" + space
		var err error
		if got, err = a.add(t.Context(), c, o); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			_ = a.del(o)
			if err := ipamClaims(t).Delete(t.Context(), space, metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	r := claimsReclaimer(t)
	if err := r.Once(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, "only the second claim's address is taken", func() bool { return entries(t, space) == 1 })
	b, err := newClient(t).Get(t.Context(), "10-0-0-0."+space, false)
	if err != nil {
		t.Fatal(err)
	}
	if s := b.At(int(got[0].As4()[3])); s == nil || s.Claim != "default/"+space {
		t.Errorf("%s, which the second claim has, is %+v", got[0], s)
	}
}

// claimsReclaimer looks after IPAMClaims, too, with a short quarantine.
func claimsReclaimer(t *testing.T) *reclaim.Reclaimer {
	t.Helper()
	claims, err := kube.NewIPAMClaims(server.Config(t))
	if err != nil {
		t.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(server.Config(t))
	if err != nil {
		t.Fatal(err)
	}
	return reclaim.New(newClient(t), client, reclaim.Options{Quarantine: time.Second, Log: quiet(), Claims: claims})
}
