package addresses_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/tendril-cni/tendril/cmd/tendril-controller/addresses"
	"github.com/tendril-cni/tendril/ipam"
	"github.com/tendril-cni/tendril/ipam/kube"
	"github.com/tendril-cni/tendril/ipam/v1alpha1"
	lab "github.com/tendril-cni/tendril/tests/lab/kube"
)

const identity = "system:serviceaccount:tendril-system:tendril-controller"

var discard = slog.New(slog.NewTextHandler(io.Discard, nil))

// world is an API server with the controller's manifest, without its webhooks:
// nobody answers them here.
type world struct {
	t      *testing.T
	api    *lab.API
	client kubernetes.Interface
	blocks *kube.Blocks
}

func newWorld(t *testing.T) *world {
	t.Helper()
	api, err := lab.Start(t.Context(), lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := api.Close(); err != nil {
			t.Error(err)
		}
	})
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "deployment", "manifests", "controller.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	manifest := "{apiVersion: v1, kind: Namespace, metadata: {name: tendril-system}}"
	for doc := range strings.SplitSeq(string(text), "\n---\n") {
		if !strings.Contains(doc, "admissionregistration.k8s.io/v1\n") {
			manifest += "\n---\n" + doc
		}
	}
	if err := api.Apply(t.Context(), manifest); err != nil {
		t.Fatal(err)
	}
	config, err := api.RESTConfig(lab.Admin)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, api: api}
	if w.client, err = kubernetes.NewForConfig(config); err != nil {
		t.Fatal(err)
	}
	if w.blocks, err = kube.NewBlocks(config); err != nil {
		t.Fatal(err)
	}
	return w
}

// kubeconfig is that of the service account, with the rights of the manifest.
func (w *world) kubeconfig() string {
	w.t.Helper()
	config, err := clientcmd.LoadFromFile(w.api.Kubeconfig(lab.Admin))
	if err != nil {
		w.t.Fatal(err)
	}
	for _, user := range config.AuthInfos {
		user.Impersonate = identity
		user.ImpersonateGroups = []string{"system:serviceaccounts", "system:serviceaccounts:tendril-system", "system:authenticated"}
	}
	path := filepath.Join(w.t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		w.t.Fatal(err)
	}
	return path
}

// replica runs a controller's part until stop is called or the test ends.
func (w *world) replica(name string) (ranges *addresses.Ranges, stop func()) {
	w.t.Helper()
	ranges = addresses.NewRanges()
	o := addresses.Options{Kubeconfig: w.kubeconfig(), Namespace: "tendril-system", Identity: name, Ranges: ranges, Every: 100 * time.Millisecond, Log: discard}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := addresses.Run(ctx, o); err != nil {
			w.t.Errorf("replica %s: %v", name, err)
		}
	}()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	w.t.Cleanup(stop)
	return ranges, stop
}

func (w *world) eventually(what string, check func() error) {
	w.t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			w.t.Fatalf("%s: %v", what, err)
		}
	}
}

// own writes a block of which a node has a slot, and the Node object.
func (w *world) own(node, cell string, slots ...int) {
	w.t.Helper()
	n, err := w.client.CoreV1().Nodes().Create(w.t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node}}, metav1.CreateOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	b := v1alpha1.New("s", ipam.CellOf(netip.MustParseAddr(cell)))
	for _, i := range slots {
		b.Set(v1alpha1.Slot{Slot: i, Node: node, UID: string(n.UID)})
	}
	if _, err := w.blocks.Write(w.t.Context(), b); err != nil {
		w.t.Fatal(err)
	}
}

// quarantined says whether every slot of the cell's block is in quarantine.
func (w *world) quarantined(cell string) error {
	b, err := w.blocks.Get(w.t.Context(), v1alpha1.Name("s", ipam.CellOf(netip.MustParseAddr(cell))), false)
	if err != nil || b == nil {
		return fmt.Errorf("block %v: %w", b, err)
	}
	for _, s := range b.Spec.Slots {
		if s.Until == nil {
			return fmt.Errorf("slot %d is node %s's", s.Slot, s.Node)
		}
	}
	return nil
}

func (w *world) holder() string {
	l, err := w.client.CoordinationV1().Leases("tendril-system").Get(w.t.Context(), addresses.LeaseName, metav1.GetOptions{})
	if err != nil || l.Spec.HolderIdentity == nil {
		return ""
	}
	return *l.Spec.HolderIdentity
}

func (w *world) awaitHolder(name string) {
	w.t.Helper()
	w.eventually("the lease to be "+name+"'s", func() error {
		if h := w.holder(); h != name {
			return fmt.Errorf("it is %q's", h)
		}
		return nil
	})
}

// metrics are the values of the ranges, by name, network and state.
func metrics(t *testing.T, r *addresses.Ranges) map[string]float64 {
	t.Helper()
	reg := prometheus.NewRegistry()
	reg.MustRegister(r)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			key := f.GetName()
			for _, l := range m.Label {
				key += " " + l.GetValue()
			}
			out[key] = m.GetGauge().GetValue()
		}
	}
	return out
}

// TestOneReplicaReclaimsWithTheRightsOfTheManifest: the addresses of a deleted node
// go into quarantine with an event, those of a living one stay, and when the replica
// at work ends another goes on.
func TestOneReplicaReclaimsWithTheRightsOfTheManifest(t *testing.T) {
	w := newWorld(t)
	if err := w.api.Apply(t.Context(), `{"apiVersion":"k8s.cni.cncf.io/v1","kind":"NetworkAttachmentDefinition","metadata":{"name":"red","namespace":"default"},
		"spec":{"config":"{\"type\":\"macvlan\",\"ipam\":{\"type\":\"whereabouts\",\"range\":\"10.0.0.0/24\",\"network_name\":\"s\"}}"}}`); err != nil {
		t.Fatal(err)
	}
	w.own("gone", "10.0.0.0", 1, 2)
	w.own("lives", "10.0.0.64", 3)
	first, stopFirst := w.replica("first")
	w.awaitHolder("first")
	second, _ := w.replica("second")
	const taken = "tendril_range_addresses default/red 0 10.0.0.1-10.0.0.254 "
	w.eventually("metrics of the range", func() error {
		if got := metrics(t, first); got[taken+"nodes"] != 3 || got["tendril_range_capacity default/red 0 10.0.0.1-10.0.0.254"] != 254 {
			return fmt.Errorf("%v", got)
		}
		return nil
	})
	if err := w.client.CoreV1().Nodes().Delete(t.Context(), "gone", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.eventually("quarantine", func() error { return w.quarantined("10.0.0.0") })
	w.eventually("metrics of the quarantine", func() error {
		if got := metrics(t, first); got[taken+"nodes"] != 1 || got[taken+"quarantine"] != 2 {
			return fmt.Errorf("%v", got)
		}
		return nil
	})
	if err := w.quarantined("10.0.0.64"); err == nil {
		t.Error("the addresses of a node that lives are reclaimed")
	}
	if got := metrics(t, second); len(got) != 0 {
		t.Errorf("a replica that is not at work tells %v", got)
	}
	w.eventually("the event", func() error {
		list, err := w.client.CoreV1().Events("").List(t.Context(), metav1.ListOptions{FieldSelector: "reason=AddressesReclaimed"})
		if err != nil || len(list.Items) != 1 || !strings.Contains(list.Items[0].Message, "2 addresses of 10.0.0.0/26: reclaimed from node gone") {
			return fmt.Errorf("%v %v", list.Items, err)
		}
		return nil
	})
	stopFirst()
	w.awaitHolder("second")
	w.own("gone-too", "10.0.0.128", 5)
	if err := w.client.CoreV1().Nodes().Delete(t.Context(), "gone-too", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.eventually("the second replica's work", func() error { return w.quarantined("10.0.0.128") })
}

// TestRangesAreNotCountedOnTopOfThemselves: in a round in which the definitions cannot
// be read the metrics stay what they were.
func TestRangesAreNotCountedOnTopOfThemselves(t *testing.T) {
	w := newWorld(t)
	if err := w.api.Apply(t.Context(), `{"apiVersion":"k8s.cni.cncf.io/v1","kind":"NetworkAttachmentDefinition","metadata":{"name":"red","namespace":"default"},
		"spec":{"config":"{\"type\":\"macvlan\",\"ipam\":{\"type\":\"whereabouts\",\"range\":\"10.0.0.0/26\",\"network_name\":\"s\"}}"}}`); err != nil {
		t.Fatal(err)
	}
	w.own("lives", "10.0.0.0", 3)
	ranges, _ := w.replica("first")
	const nodes = "tendril_range_addresses default/red 0 10.0.0.1-10.0.0.62 nodes"
	w.eventually("metrics of the range", func() error {
		if got := metrics(t, ranges); got[nodes] != 1 {
			return fmt.Errorf("%v", got)
		}
		return nil
	})
	if out, err := w.api.Kubectl(t.Context(), "delete", "crd", "network-attachment-definitions.k8s.cni.cncf.io"); err != nil {
		t.Fatal(out, err)
	}
	// A round that does this has not seen the definitions.
	w.own("gone", "10.0.0.128", 5)
	if err := w.client.CoreV1().Nodes().Delete(t.Context(), "gone", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.eventually("two more rounds", func() error { return w.quarantined("10.0.0.128") })
	w.own("gone-too", "10.0.0.192", 5)
	if err := w.client.CoreV1().Nodes().Delete(t.Context(), "gone-too", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.eventually("two more rounds", func() error { return w.quarantined("10.0.0.192") })
	if got := metrics(t, ranges)[nodes]; got != 1 {
		t.Errorf("%v addresses are with nodes, want 1", got)
	}
}

// TestOneDefinitionHidesNoMetrics: addresses are those of a chain's first plugin; an
// ipam of a later one, which nobody reads, is no second range of the same name. Two
// series of one name would be the end of all the controller's metrics.
func TestOneDefinitionHidesNoMetrics(t *testing.T) {
	w := newWorld(t)
	if err := w.api.Apply(t.Context(), `{"apiVersion":"k8s.cni.cncf.io/v1","kind":"NetworkAttachmentDefinition","metadata":{"name":"red","namespace":"default"},
		"spec":{"config":"{\"plugins\":[{\"type\":\"macvlan\",\"ipam\":{\"type\":\"whereabouts\",\"range\":\"10.0.0.0/24\"}},{\"type\":\"tuning\",\"ipam\":{\"type\":\"whereabouts\",\"range\":\"10.0.0.0/24\"}}]}"}}`); err != nil {
		t.Fatal(err)
	}
	ranges, _ := w.replica("only")
	w.eventually("metrics of the range", func() error {
		if got := metrics(t, ranges); got["tendril_range_capacity default/red 0 10.0.0.1-10.0.0.254"] != 254 {
			return fmt.Errorf("%v", got)
		}
		return nil
	})
}
