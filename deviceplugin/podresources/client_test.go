package podresources_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	api "k8s.io/kubelet/pkg/apis/podresources/v1"

	"github.com/tendril-cni/tendril/deviceplugin/podresources"
)

// kubelet is the kubelet's side over a real socket: it holds pods and answers
// as kubelets of several ages do.
type kubelet struct {
	api.UnimplementedPodResourcesListerServer
	root   string
	server *grpc.Server
	pods   []*api.PodResources
	// get is what Get does: "" answers, "off" is the feature gate, "old" a
	// kubelet before Get, "busy" one that is overloaded.
	get atomic.Value
	// gets and lists count the calls.
	gets, lists atomic.Int32
}

func newKubelet(t *testing.T) *kubelet {
	t.Helper()
	// Not t.TempDir: its name is longer than a socket's path may be.
	root, err := os.MkdirTemp("", "kl")
	if err != nil {
		t.Fatal(err)
	}
	k := &kubelet{root: root}
	k.get.Store("")
	t.Cleanup(func() {
		k.stop()
		os.RemoveAll(root)
	})
	return k
}

func (k *kubelet) start(t *testing.T) {
	t.Helper()
	dir := filepath.Join(k.root, "pod-resources")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, "kubelet.sock"))
	if err != nil {
		t.Fatal(err)
	}
	k.server = grpc.NewServer()
	api.RegisterPodResourcesListerServer(k.server, k)
	go func() { _ = k.server.Serve(l) }()
}

// stop ends the server, which also removes its socket.
func (k *kubelet) stop() {
	if k.server != nil {
		k.server.Stop()
	}
}

func (k *kubelet) Get(_ context.Context, r *api.GetPodResourcesRequest) (*api.GetPodResourcesResponse, error) {
	k.gets.Add(1)
	switch k.get.Load() {
	case "off":
		return nil, errors.New("PodResources API Get method disabled")
	case "old":
		return nil, status.Error(codes.Unimplemented, "unknown method Get")
	case "busy":
		return nil, status.Error(codes.ResourceExhausted, "rejected by rate limit")
	}
	for _, p := range k.pods {
		if p.Name == r.PodName && p.Namespace == r.PodNamespace {
			return &api.GetPodResourcesResponse{PodResources: p}, nil
		}
	}
	return nil, fmt.Errorf("pod %s in namespace %s not found", r.PodName, r.PodNamespace)
}

func (k *kubelet) List(context.Context, *api.ListPodResourcesRequest) (*api.ListPodResourcesResponse, error) {
	k.lists.Add(1)
	return &api.ListPodResourcesResponse{PodResources: k.pods}, nil
}

func devices(resource string, ids ...string) *api.ContainerDevices {
	return &api.ContainerDevices{ResourceName: resource, DeviceIds: ids}
}

func pods() []*api.PodResources {
	return []*api.PodResources{
		{Namespace: "red", Name: "web", Containers: []*api.ContainerResources{{Name: "c", Devices: []*api.ContainerDevices{devices("x/a", "9")}}}},
		{Namespace: "blue", Name: "web", Containers: []*api.ContainerResources{
			{Name: "side", Devices: []*api.ContainerDevices{devices("x/a", "3"), devices("x/a", "1")}},
			{Name: "main", Devices: []*api.ContainerDevices{devices("x/b", "7", "5"), devices("x/a", "2", "3")}},
		}},
		{Namespace: "blue", Name: "plain", Containers: []*api.ContainerResources{{Name: "c"}}},
	}
}

// TestDevices: the same answer from kubelets of all ages, in the kubelet's
// order over all containers, of the right pod of two with one name.
func TestDevices(t *testing.T) {
	k := newKubelet(t)
	k.pods = pods()
	k.start(t)
	client, err := podresources.New(k.root)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for _, get := range []string{"", "off", "old"} {
		k.get.Store(get)
		k.lists.Store(0)
		held, err := client.Devices(t.Context(), "blue", "web")
		if err != nil {
			t.Fatalf("%q: %v", get, err)
		}
		if diff := cmp.Diff(map[string][]string{"x/a": {"3", "1", "2"}, "x/b": {"7", "5"}}, held); diff != "" {
			t.Errorf("%q (-want +got):\n%s", get, diff)
		}
		if listed := k.lists.Load() > 0; listed != (get != "") {
			t.Errorf("%q: listed %v", get, listed)
		}
		held, err = client.Devices(t.Context(), "blue", "plain")
		if err != nil || held == nil || len(held) != 0 {
			t.Errorf("%q: pod without devices: %v, %v", get, held, err)
		}
		held, err = client.Devices(t.Context(), "red", "gone")
		if !errors.Is(err, podresources.ErrUnknownPod) || held != nil {
			t.Errorf("%q: pod unknown: %v, %v", get, held, err)
		}
	}
}

// TestErrorsAreNoAnswers: a kubelet that refuses or is not there is
// never taken for a pod without devices.
func TestErrorsAreNoAnswers(t *testing.T) {
	k := newKubelet(t)
	k.pods = pods()
	client, err := podresources.New(k.root)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	_, err = client.Devices(t.Context(), "blue", "web")
	if !errors.Is(err, podresources.ErrNoSocket) || !strings.Contains(err.Error(), "pod-resources/kubelet.sock") {
		t.Errorf("no socket: %v", err)
	}
	k.start(t)
	k.get.Store("busy")
	waitFor(t, func() bool {
		_, err = client.Devices(t.Context(), "blue", "web")
		return status.Code(errors.Unwrap(err)) == codes.ResourceExhausted
	})
	if k.lists.Load() != 0 {
		t.Error("an overloaded kubelet was asked for everything")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err = client.Devices(ctx, "blue", "web"); status.Code(errors.Unwrap(err)) != codes.Canceled {
		t.Errorf("cancelled: %v", err)
	}
}

// TestKubeletRestart: one client outlives several kubelets.
func TestKubeletRestart(t *testing.T) {
	k := newKubelet(t)
	k.pods = pods()
	client, err := podresources.New(k.root)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for range 3 {
		k.start(t)
		waitFor(t, func() bool {
			held, err := client.Devices(t.Context(), "red", "web")
			return err == nil && cmp.Equal(held, map[string][]string{"x/a": {"9"}})
		})
		k.stop()
		waitFor(t, func() bool {
			_, err := client.Devices(t.Context(), "red", "web")
			return errors.Is(err, podresources.ErrNoSocket)
		})
	}
}

// TestLargeNode: an answer beyond gRPC's default limit of 4 MiB is read.
func TestLargeNode(t *testing.T) {
	k := newKubelet(t)
	k.get.Store("off")
	for i := range 600 {
		ids := make([]string, 1000)
		for j := range ids {
			ids[j] = fmt.Sprintf("%04d-%03d", j, i)
		}
		k.pods = append(k.pods, &api.PodResources{Namespace: "n", Name: fmt.Sprint("p", i),
			Containers: []*api.ContainerResources{{Devices: []*api.ContainerDevices{devices("x/a", ids...)}}}})
	}
	k.start(t)
	client, err := podresources.New(k.root)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	held, err := client.Devices(t.Context(), "n", "p599")
	if err != nil || len(held["x/a"]) != 1000 {
		t.Errorf("%d devices, %v", len(held["x/a"]), err)
	}
}

// waitFor polls until ok, with a deadline far beyond what anything here takes.
func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it never came")
		}
	}
}

// TestAll: every device of every container with its pod, and no answer without a
// kubelet.
func TestAll(t *testing.T) {
	k := newKubelet(t)
	k.pods = pods()
	client, err := podresources.New(k.root)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if list, err := client.All(t.Context()); !errors.Is(err, podresources.ErrNoSocket) || list != nil {
		t.Errorf("no kubelet: %v, %v", list, err)
	}
	k.start(t)
	var got []string
	// The connection may still be waiting after the call that failed.
	for deadline := time.Now().Add(30 * time.Second); got == nil && time.Now().Before(deadline); {
		list, err := client.All(t.Context())
		if err != nil {
			continue
		}
		for _, h := range list {
			got = append(got, fmt.Sprintf("%s/%s %s %s", h.Namespace, h.Pod, h.Resource, h.ID))
		}
	}
	want := []string{
		"red/web x/a 9",
		"blue/web x/a 3", "blue/web x/a 1", "blue/web x/b 7", "blue/web x/b 5", "blue/web x/a 2", "blue/web x/a 3",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
