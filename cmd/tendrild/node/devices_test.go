package node

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	podapi "k8s.io/kubelet/pkg/apis/podresources/v1"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/journal"
	"github.com/tendril-cni/tendril/deviceplugin"
	"github.com/tendril-cni/tendril/deviceplugin/podresources"
	"github.com/tendril-cni/tendril/vf/sysfs"
)

// kubelet answers List with one pod.
type kubelet struct {
	podapi.UnimplementedPodResourcesListerServer
}

func (kubelet) List(context.Context, *podapi.ListPodResourcesRequest) (*podapi.ListPodResourcesResponse, error) {
	return &podapi.ListPodResourcesResponse{PodResources: []*podapi.PodResources{{
		Namespace: "blue", Name: "web", Containers: []*podapi.ContainerResources{{
			Devices: []*podapi.ContainerDevices{{ResourceName: "intel.com/low", DeviceIds: []string{"0000:01:10.0"}}},
		}},
	}}}, nil
}

// shortDir is a directory in whose name a socket's path has room.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "nd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func testJournal(t *testing.T) *journal.Journal {
	t.Helper()
	j, err := journal.Open(journal.Options{Path: filepath.Join(t.TempDir(), "journal.db"), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return j
}

func testClient(t *testing.T, root string) *podresources.Client {
	t.Helper()
	c, err := podresources.New(root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// TestHoldings: the kubelet's pods and the journal's attachments, and no answer
// where the kubelet gives none.
func TestHoldings(t *testing.T) {
	j, root := testJournal(t), shortDir(t)
	record, err := json.Marshal(cni.Record{Attachment: cni.Attachment{
		ContainerID: "c1", IfName: "net1", Device: "0000:01:10.2", Pod: cni.PodRef{Namespace: "red", Name: "fw"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Update("test", func(tx *journal.Tx) error { return tx.Put("c1", "net1", record) }); err != nil {
		t.Fatal(err)
	}
	if list, err := holdings(testClient(t, root), j)(t.Context()); err == nil {
		t.Errorf("without a kubelet: %v", list)
	}
	serveKubelet(t, root)
	list, err := holdings(testClient(t, root), j)(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(list, func(a, b deviceplugin.Holding) int { return strings.Compare(a.ID, b.ID) })
	want := []deviceplugin.Holding{
		{ID: "0000:01:10.0", Resource: "intel.com/low", Owner: "pod blue/web"},
		{ID: "0000:01:10.2", Owner: "pod red/fw"},
	}
	if diff := cmp.Diff(want, list); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestInvariant6BorrowedVFIsInUse: a VF that a network names by itself, without a
// resource, is in a pod like any other. Nobody may destroy it or give it out.
func TestInvariant6BorrowedVFIsInUse(t *testing.T) {
	j, root := testJournal(t), shortDir(t)
	pod := cni.PodRef{Namespace: "red", Name: "fw"}
	// Notes as the drivers leave them in the journal.
	for name, r := range map[string]cni.Record{
		"net1": {Attachment: cni.Attachment{Kind: cni.KindHostDevice, Pod: pod}, Prior: []byte(`{"pci":"0000:01:10.2","device":{"name":"sriov0v1","index":9,"bus":"pci","dev":"0000:01:10.2"}}`)},
		"net2": {Attachment: cni.Attachment{Kind: cni.KindHostDevice, Pod: pod}, Prior: []byte(`{"userspace":true,"pci":"0000:01:10.4"}`)},
		"net3": {Attachment: cni.Attachment{Kind: cni.KindHostDevice, Pod: pod}, Prior: []byte(`{"device":{"name":"dummy0","index":11}}`)},
		"net4": {Attachment: cni.Attachment{Kind: cni.KindBond, Pod: pod}, Prior: []byte(`{"slaves":[{"name":"sriov0v3","index":12,"bus":"pci","dev":"0000:01:10.6"},{"name":"sriov0v4","index":13,"bus":"pci","dev":"0000:01:11.0"}]}`)},
		"net5": {Attachment: cni.Attachment{Kind: cni.KindMacvlan, Pod: pod}, Prior: []byte(`{"slaves":1}`)},
	} {
		data, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := j.Update("test", func(tx *journal.Tx) error { return tx.Put("c1", name, data) }); err != nil {
			t.Fatal(err)
		}
	}
	serveKubelet(t, root)
	list, err := holdings(testClient(t, root), j)(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, h := range list {
		if h.Owner == "pod red/fw" {
			ids = append(ids, h.ID)
		}
	}
	slices.Sort(ids)
	if diff := cmp.Diff([]string{"0000:01:10.2", "0000:01:10.4", "0000:01:10.6", "0000:01:11.0"}, ids); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestAllocationFromTheFuture: the clock was set back since, as it is on machines
// that boot with a wrong one. Until it got there again the device would count as that
// of a pod that is being started, and no other resource could have it.
func TestAllocationFromTheFuture(t *testing.T) {
	j := testJournal(t)
	remember(j, slog.New(slog.DiscardHandler))(deviceplugin.Allocation{Resource: "intel.com/low", IDs: []string{"0000:01:10.0"}, Time: time.Now().Add(5 * time.Hour)})
	var all deviceplugin.Allocations
	if err := recall(j, &all); err != nil {
		t.Fatal(err)
	}
	if a, ok := all.Last("0000:01:10.0"); !ok || a.Time.After(time.Now()) {
		t.Errorf("recalled as %+v, %v", a, ok)
	}
}

// serveKubelet has the kubelet of these tests listen below root.
func serveKubelet(t *testing.T, root string) {
	t.Helper()
	if err := os.Mkdir(filepath.Join(root, "pod-resources"), 0o755); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(root, "pod-resources", "kubelet.sock"))
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	podapi.RegisterPodResourcesListerServer(server, kubelet{})
	go func() { _ = server.Serve(l) }()
	t.Cleanup(server.Stop)
}

// TestInvariant9BadPoolsAreShown: a daemon that starts beside a bad file serves
// nothing new, and says why on its page and in its metrics.
func TestInvariant9BadPoolsAreShown(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "config.json")
	const bad = `{"resourceList":[{"resourceName":"low","selectors":{"pfNames":["eth0#x"]}}]}`
	if err := os.WriteFile(file, []byte(bad), 0o644); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	o, err := newOffer(offerOptions{File: file, KubeletRoot: dir, StateDir: dir},
		sysfs.NewInventory(sysfs.New(dir), log, sysfs.Options{}), testJournal(t), testClient(t, dir), log)
	if err != nil {
		t.Fatal(err)
	}
	page := httptest.NewRecorder()
	o.ServeHTTP(page, nil)
	for _, words := range []string{"file refused", file, "intel.com/low", "resourceList[0].selectors.pfNames[0]", `"eth0#x"`} {
		if !strings.Contains(page.Body.String(), words) {
			t.Errorf("%q is not on the page:\n%s", words, page.Body)
		}
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(o)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var shown []string
	for _, f := range families {
		for _, m := range f.Metric {
			shown = append(shown, f.GetName()+" "+m.Label[0].GetValue()+" "+m.GetGauge().String())
		}
	}
	want := []string{"tendril_pool_config_refused file value:1", "tendril_pool_config_refused policies value:0"}
	if diff := cmp.Diff(want, shown); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
