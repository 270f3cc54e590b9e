package kube_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"github.com/tendril-cni/tendril/ipam"
	"github.com/tendril-cni/tendril/ipam/whereabouts"
)

// reservationCRD is what whereabouts installs, as far as reservations go.
const reservationCRD = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: overlappingrangeipreservations.whereabouts.cni.cncf.io}
spec:
  group: whereabouts.cni.cncf.io
  scope: Namespaced
  names: {kind: OverlappingRangeIPReservation, listKind: OverlappingRangeIPReservationList, singular: overlappingrangeipreservation, plural: overlappingrangeipreservations}
  versions:
    - name: v1alpha1
      served: true
      storage: true
      schema:
        openAPIV3Schema:
          type: object
          properties:
            spec:
              type: object
              required: [podref]
              properties:
                podref: {type: string}
                ifname: {type: string}
                containerid: {type: string}
`

// poolCRD is the same of pools.
const poolCRD = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: ippools.whereabouts.cni.cncf.io}
spec:
  group: whereabouts.cni.cncf.io
  scope: Namespaced
  names: {kind: IPPool, listKind: IPPoolList, singular: ippool, plural: ippools}
  versions:
    - name: v1alpha1
      served: true
      storage: true
      schema:
        openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}
`

// sliceCRD is the same of slices of nodes.
const sliceCRD = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: nodeslicepools.whereabouts.cni.cncf.io}
spec:
  group: whereabouts.cni.cncf.io
  scope: Namespaced
  names: {kind: NodeSlicePool, listKind: NodeSlicePoolList, singular: nodeslicepool, plural: nodeslicepools}
  versions:
    - name: v1alpha1
      served: true
      storage: true
      schema:
        openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}
`

func whereaboutsClient(t *testing.T) *rest.RESTClient {
	t.Helper()
	config := rest.CopyConfig(server.Config(t))
	var files []string
	for i, text := range []string{reservationCRD, poolCRD, sliceCRD} {
		file := filepath.Join(t.TempDir(), fmt.Sprintf("crd%d.yaml", i))
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	if err := server.API(t).InstallCRDs(t.Context(), files...); err != nil {
		t.Fatal(err)
	}
	config.GroupVersion = &schema.GroupVersion{Group: "whereabouts.cni.cncf.io", Version: "v1alpha1"}
	config.APIPath, config.NegotiatedSerializer = "/apis", scheme.Codecs.WithoutConversion()
	client, err := rest.RESTClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// oldAllocate is what whereabouts does about one address: it has it if it creates
// the reservation.
func oldAllocate(t *testing.T, client *rest.RESTClient, space string, a netip.Addr, podRef string) bool {
	body, err := json.Marshal(map[string]any{
		"apiVersion": "whereabouts.cni.cncf.io/v1alpha1", "kind": "OverlappingRangeIPReservation",
		"metadata": map[string]any{"name": whereabouts.ReservationName(space, a)}, "spec": map[string]any{"podref": podRef},
	})
	if err != nil {
		t.Fatal(err)
	}
	return client.Post().Namespace("kube-system").Resource("overlappingrangeipreservations").Body(body).Do(t.Context()).Error() == nil
}

// TestInvariant5MixedFleetWithWhereabouts: nodes of both kinds take the addresses
// of one range at once; each address goes to one of them.
func TestInvariant5MixedFleetWithWhereabouts(t *testing.T) {
	space := newSpace()
	c := shared(t, space, `"range":"10.0.0.0/26"`)
	old := whereaboutsClient(t)
	var mu sync.Mutex
	holders := map[netip.Addr]string{}
	take := func(a netip.Addr, who string) {
		mu.Lock()
		defer mu.Unlock()
		if was, ok := holders[a]; ok {
			t.Errorf("%s: %s and %s", a, was, who)
		}
		holders[a] = who
	}
	var wg sync.WaitGroup
	for i := range 3 {
		b := newBox(t, server.Config(t), fmt.Sprintf("mixed%d-%s", i, space))
		peer, err := whereabouts.NewReservations(server.Config(t), "kube-system", b.name)
		if err != nil {
			t.Fatal(err)
		}
		b.options.Peer = peer
		b.start(t)
		wg.Add(2)
		go func() {
			defer wg.Done()
			for n := range 10 {
				addrs, err := b.add(t.Context(), c, pod(100*i+n))
				if err != nil {
					t.Error(err)
					return
				}
				take(addrs[0], fmt.Sprintf("new node %d", i))
			}
		}()
		go func() {
			defer wg.Done()
			a := netip.MustParseAddr("10.0.0.1")
			for got := 0; got < 10; a = a.Next() {
				if oldAllocate(t, old, space, a, fmt.Sprintf("blue/old%d", i)) {
					take(a, fmt.Sprintf("old node %d", i))
					got++
				}
			}
		}()
	}
	wg.Wait()
	if len(holders) != 60 {
		t.Errorf("%d addresses given, want 60", len(holders))
	}
}

// TestInvariant5ClaimsBesideWhereabouts: the address of an IPAMClaim is one that
// whereabouts has given to nobody, and gives to nobody.
func TestInvariant5ClaimsBesideWhereabouts(t *testing.T) {
	space := newSpace()
	c := shared(t, space, `"range":"10.0.0.0/24"`)
	old := whereaboutsClient(t)
	if !oldAllocate(t, old, space, netip.MustParseAddr("10.0.0.1"), "blue/old") {
		t.Fatal("whereabouts got no address")
	}
	makeIPAMClaim(t, space)
	a := newBox(t, server.Config(t), "claims-"+space)
	var err error
	if a.options.Peer, err = whereabouts.NewReservations(server.Config(t), "kube-system", a.name); err != nil {
		t.Fatal(err)
	}
	a.start(t)
	o := pod(1)
	o.Claim = "default/" + space
	got, err := a.add(t.Context(), c, o)
	if err != nil || fmt.Sprint(got) != "[10.0.0.2]" {
		t.Fatalf("the claim has %v, %v; a pod of whereabouts has 10.0.0.1", got, err)
	}
	if oldAllocate(t, old, space, got[0], "blue/late") {
		t.Errorf("whereabouts gave %s to a pod too", got[0])
	}
}

// TestInvariant5ClaimWhoseAddressWhereaboutsHas: status.ips names an address that a
// pod of whereabouts has got since.
func TestInvariant5ClaimWhoseAddressWhereaboutsHas(t *testing.T) {
	space := newSpace()
	c := shared(t, space, `"range":"10.0.0.0/24"`)
	old := whereaboutsClient(t)
	makeIPAMClaim(t, space)
	claim, err := ipamClaims(t).Get(t.Context(), space, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	claim.Object["status"] = map[string]any{"ips": []any{"10.0.0.7/24"}}
	if _, err := ipamClaims(t).UpdateStatus(t.Context(), claim, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if !oldAllocate(t, old, space, netip.MustParseAddr("10.0.0.7"), "blue/old") {
		t.Fatal("whereabouts got no address")
	}
	a := newBox(t, server.Config(t), "status-"+space)
	if a.options.Peer, err = whereabouts.NewReservations(server.Config(t), "kube-system", a.name); err != nil {
		t.Fatal(err)
	}
	a.start(t)
	o := pod(1)
	o.Claim = "default/" + space
	if got, err := a.add(t.Context(), c, o); err != nil || fmt.Sprint(got) != "[10.0.0.1]" {
		t.Errorf("the claim has %v, %v; a pod of whereabouts has 10.0.0.7", got, err)
	}
}

func TestAdoptTakesOverALiveAttachment(t *testing.T) {
	space := newSpace()
	c := shared(t, space, `"range":"10.0.0.0/24","gateway":"10.0.0.1"`)
	a, b := newBox(t, server.Config(t), "a").start(t), newBox(t, server.Config(t), "b").start(t)
	// whereabouts gave the gateway's address away: it is in use all the same.
	gateway, other := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	live := ipam.Owner{Container: "old", IfName: "net1", Pod: "blue/p9"}
	for range 2 {
		if err := a.node.Adopt(t.Context(), "n", space, live, gateway, other); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.node.Adopt(t.Context(), "n", space, pod(1), other); err == nil {
		t.Error("another node adopted it too")
	}
	if got := b.mustAdd(t, c, 2); got != "[10.0.0.3]" {
		t.Errorf("next pod has %s", got)
	}
	if err := a.del(live); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10e9, "only the other pod's slot is left", func() bool { return entries(t, space) == 1 })
}

// TestTakeOverOfLivePools: the pods of a whereabouts node go on with their
// addresses, which nobody else is given.
func TestTakeOverOfLivePools(t *testing.T) {
	space := newSpace()
	old := whereaboutsClient(t)
	body := `{"apiVersion":"whereabouts.cni.cncf.io/v1alpha1","kind":"IPPool","metadata":{"name":"` + space + `-10.0.0.0-24"},"spec":{"range":"10.0.0.0/24","allocations":{` +
		`"1":{"id":"one","podref":"blue/one","ifname":"net1"},"3":{"id":"three","podref":"blue/three","ifname":"net1"}}}}`
	if err := old.Post().Namespace("kube-system").Resource("ippools").Body([]byte(body)).Do(t.Context()).Error(); err != nil {
		t.Fatal(err)
	}
	a := newBox(t, server.Config(t), "takes-over").start(t)
	peer, err := whereabouts.NewReservations(server.Config(t), "kube-system", a.name)
	if err != nil {
		t.Fatal(err)
	}
	pools, err := peer.Pools(t.Context())
	if err != nil || len(pools) != 1 {
		t.Fatalf("%v, %v", pools, err)
	}
	addrs, err := pools[0].Addresses()
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range addrs {
		if err := a.node.Adopt(t.Context(), "n", one.Space, one.Owner(), one.Addr); err != nil {
			t.Fatal(err)
		}
	}
	c := shared(t, space, `"range":"10.0.0.0/24"`)
	b := newBox(t, server.Config(t), "new").start(t)
	if got := b.mustAdd(t, c, 1) + b.mustAdd(t, c, 2); got != "[10.0.0.2][10.0.0.4]" {
		t.Errorf("new pods have %s", got)
	}
	again, err := a.add(t.Context(), c, addrs[1].Owner())
	if err != nil || fmt.Sprint(again) != "[10.0.0.3]" {
		t.Errorf("the old pod has %v, %v", again, err)
	}
}
