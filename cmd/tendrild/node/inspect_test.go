package node_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	podapi "k8s.io/kubelet/pkg/apis/podresources/v1"

	"github.com/tendril-cni/tendril/cmd/tendrild/node"
	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/inspect"
	"github.com/tendril-cni/tendril/cni/netns/netnstest"
	"github.com/tendril-cni/tendril/cni/rpc"
	"github.com/tendril-cni/tendril/vf/vftest"
)

func TestMain(m *testing.M) { netnstest.Main(m) }

// password is what a definition may hold and no answer may show.
const password = "correct-horse"

// onePod is a cluster with one pod on one macvlan network.
type onePod struct{ master string }

func (onePod) Pod(_ context.Context, namespace, name, uid string) (cni.Pod, error) {
	return cni.Pod{PodRef: cni.PodRef{Namespace: namespace, Name: name, UID: uid}, Annotations: map[string]string{"k8s.v1.cni.cncf.io/networks": "store"}}, nil
}

func (o onePod) Definition(_ context.Context, namespace, name string) (cni.Definition, error) {
	return cni.Definition{Namespace: namespace, Name: name, Config: fmt.Sprintf(
		`{"cniVersion":"1.0.0","type":"macvlan","master":%q,"ipam":{"type":"host-local","subnet":"192.0.2.0/29"},"args":{"cni":{"password":%q}}}`, o.master, password)}, nil
}

func (onePod) Publish(cni.PodRef, []cni.NetworkStatus) {}
func (onePod) Added(cni.PodRef, []cni.Made)            {}
func (onePod) Refused(cni.PodRef, error)               {}

// busy is a kubelet whose pod "blue/vnf" has a VF.
type busy struct {
	podapi.UnimplementedPodResourcesListerServer
}

func (busy) List(context.Context, *podapi.ListPodResourcesRequest) (*podapi.ListPodResourcesResponse, error) {
	return &podapi.ListPodResourcesResponse{PodResources: []*podapi.PodResources{{Namespace: "blue", Name: "vnf", Containers: []*podapi.ContainerResources{{
		Devices: []*podapi.ContainerDevices{{ResourceName: "tendril.dev/fast", DeviceIds: []string{"0000:01:10.0"}}},
	}}}}}, nil
}

// daemon is a running one and its directories.
type daemon struct {
	t   *testing.T
	cfg node.Config
}

// run runs the real wiring in a namespace of its own, over a tree of sysfs.
func run(t *testing.T) *daemon {
	t.Helper()
	master, _ := netnstest.Veth(t)
	dir, err := os.MkdirTemp("", "tn") // a socket's path has to be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	write := func(name, text string) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("net.d/10-default.conflist", fmt.Sprintf(`{"cniVersion":"1.0.0","name":"default","plugins":[{"type":"macvlan","master":%q,"token":%q,"ipam":{"type":"host-local","subnet":"203.0.113.0/29"}}]}`, master.Attrs().Name, password))
	write("net.d/20-broken.conf", "{")
	write("pools.json", `{"resourceList":[{"resourcePrefix":"tendril.dev","resourceName":"fast","selectors":{"pfNames":["sriov0"]}}]}`)
	write("kubelet/pod-resources/.keep", "")
	listen(t, filepath.Join(dir, "kubelet/pod-resources/kubelet.sock"))
	cluster := onePod{master.Attrs().Name}
	d := &daemon{t, node.Config{NodeName: "n1", Version: "test", RunDir: filepath.Join(dir, "run"), StateDir: filepath.Join(dir, "state"),
		ConfigFile: filepath.Join(dir, "pools.json"), SysfsRoot: vftest.Tree(t, vftest.TwoNICs()), KubeletRoot: filepath.Join(dir, "kubelet"),
		MetricsAddr: metricsAddr(t), CNIBinDir: filepath.Join(dir, "bin"), CNIConfDir: filepath.Join(dir, "net.d"), Log: slog.New(slog.DiscardHandler), Cluster: cluster, Report: cluster}}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- node.Run(ctx, d.cfg) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("daemon: %v", err)
		}
	})
	return d
}

func listen(t *testing.T, socket string) {
	t.Helper()
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	podapi.RegisterPodResourcesListerServer(s, busy{})
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
}

// ask asks as tendrild --inspect does, until ok likes the answer.
func ask[T any](t *testing.T, d *daemon, path string, ok func(T) bool) T {
	t.Helper()
	cfg := d.cfg
	cfg.Inspect = path
	deadline := time.Now().Add(30 * time.Second)
	for {
		var text strings.Builder
		var v T
		err := node.Inspect(t.Context(), cfg, &text)
		if err == nil {
			err = json.Unmarshal([]byte(text.String()), &v)
		}
		if strings.Contains(text.String(), password) {
			t.Fatalf("%s tells a secret: %s", path, text.String())
		}
		if err == nil && ok(v) {
			return v
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v: %s", path, err, text.String())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// add makes the pod's ADD as the shim does.
func (d *daemon) add() {
	d.t.Helper()
	pod := netnstest.Pod(d.t)
	ctx, cancel := context.WithTimeout(d.t.Context(), time.Minute)
	defer cancel()
	reply, err := rpc.Client{Socket: d.cfg.Socket(), Patience: 30 * time.Second}.Call(ctx, rpc.Request{
		ID: "t", Command: "ADD", ContainerID: "c1", IfName: "eth0", NetnsPath: fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), pod.Fd()),
		Args: "K8S_POD_NAMESPACE=blue;K8S_POD_NAME=web;K8S_POD_UID=u1", StdinData: []byte(`{"cniVersion":"1.0.0","name":"tendril","type":"tendril"}`),
	}, pod)
	if err != nil || reply.ExitCode != 0 {
		d.t.Fatalf("ADD: %v: %s", err, reply.Stdout)
	}
}

func TestTheDaemonTellsWhatItHas(t *testing.T) {
	d := run(t)
	ask(t, d, inspect.PathDoctor, func(h inspect.Host) bool { return h.NotReady == "" })
	d.add()

	t.Run("attachments", func(t *testing.T) {
		all := ask(t, d, inspect.PathAttachments, func(all []inspect.Attachment) bool { return len(all) == 2 })
		a := all[slices.IndexFunc(all, func(a inspect.Attachment) bool { return !a.Default })]
		if a.Namespace != "blue" || a.Pod != "web" || a.Interface != "net1" || a.Network != "blue/store" || a.Kind != "macvlan" || a.Phase != "attached" || a.MAC == "" {
			t.Errorf("%+v", a)
		}
		if len(a.Addresses) != 1 || !strings.HasPrefix(a.Addresses[0], "192.0.2.") {
			t.Errorf("addresses %v", a.Addresses)
		}
	})
	t.Run("addresses", func(t *testing.T) {
		all := ask(t, d, inspect.PathAddresses, func(a inspect.Addresses) bool { return len(a.Held) == 2 })
		if h := all.Held[slices.IndexFunc(all.Held, func(h inspect.Held) bool { return h.Network == "blue/store" })]; h.Pod != "web" || h.Interface != "net1" {
			t.Errorf("%+v", h)
		}
	})
	t.Run("vfs", func(t *testing.T) {
		inv := ask(t, d, inspect.PathVFs, func(i inspect.Inventory) bool { return len(i.VFs) == 9 })
		if inv.Incomplete != "" || len(inv.PFs) != 2 {
			t.Errorf("incomplete %q, PFs %+v", inv.Incomplete, inv.PFs)
		}
		first, second := inv.VFs[0], inv.VFs[1]
		if first.PF != "sriov0" || first.State != inspect.Used || first.Pod != "blue/vnf" || first.Resource != "tendril.dev/fast" || first.Driver != "igbvf" {
			t.Errorf("%+v", first)
		}
		if second.State != inspect.Free || second.Pod != "" {
			t.Errorf("%+v", second)
		}
	})
	t.Run("observed", func(t *testing.T) {
		o := ask(t, d, inspect.PathObserved, func(o inspect.Observed) bool { return o.Snapshot != nil && len(o.Snapshot.VFs) == 9 })
		if o.Users["0000:01:10.0"] != "pod blue/vnf" {
			t.Errorf("users %v", o.Users)
		}
	})
	t.Run("pools", func(t *testing.T) {
		p := ask(t, d, inspect.PathPools, func(p inspect.Pools) bool { return len(p.Pools) == 1 }).Pools[0]
		if p.Resource != "tendril.dev/fast" || len(p.Devices) != 7 || p.Devices[0].Unhealthy != "" {
			t.Errorf("%+v", p)
		}
	})
	t.Run("networks", func(t *testing.T) {
		n := ask(t, d, inspect.PathNetworks, func(n inspect.Networks) bool { return n.Default != nil })
		if n.Default.Name != "default" || !slices.Contains(n.Kinds, "macvlan") {
			t.Errorf("%+v", n)
		}
	})
	t.Run("doctor", func(t *testing.T) {
		h := ask(t, d, inspect.PathDoctor, func(h inspect.Host) bool { return h.Attachments == 2 })
		if h.Version != "test" || h.Node != "n1" || h.Kernel == "" || h.PodResources != "" || h.Unfinished != 0 {
			t.Errorf("%+v", h)
		}
		if len(h.ConfFiles) != 2 || h.ConfFiles[0].Network != "default" || h.ConfFiles[1].Error == "" {
			t.Errorf("files %+v", h.ConfFiles)
		}
	})
	t.Run("traces", func(t *testing.T) {
		all := ask(t, d, inspect.PathTraces+"?pod=blue/web&verb=ADD&last=1", func(all []inspect.Trace) bool { return len(all) == 1 && !all[0].Running })
		if a := all[0]; a.Error != "" || !slices.ContainsFunc(a.Steps, func(s inspect.TraceStep) bool { return s.Interface == "net1" && s.Network == "blue/store" }) {
			t.Errorf("%+v", a)
		}
		ask(t, d, inspect.PathTraces+"?pod=blue/other", func(all []inspect.Trace) bool { return len(all) == 0 })
	})
	t.Run("several", func(t *testing.T) {
		all := ask(t, d, inspect.PathSeveral+"?path=/doctor&path=/nonsense&path="+url.QueryEscape("/traces?pod=blue/web"), func(all map[string]inspect.One) bool { return len(all) == 3 })
		if !strings.Contains(string(all["/doctor"].Answer), `"node": "n1"`) || !strings.Contains(all["/nonsense"].Error, "is not allowed") || !strings.Contains(string(all["/traces?pod=blue/web"].Answer), `"ADD"`) {
			t.Errorf("doctor %s, nonsense %s, traces %s", all["/doctor"].Answer, all["/nonsense"].Error, all["/traces?pod=blue/web"].Answer)
		}
	})
	t.Run("what there is none of", func(t *testing.T) {
		for _, path := range []string{"/nonsense", "/vfs?pod=a", "/traces?pod=web", "/traces?last=0", "/traces?color=red"} {
			cfg := d.cfg
			cfg.Inspect = path
			err := node.Inspect(t.Context(), cfg, &strings.Builder{})
			if err == nil || !strings.Contains(err.Error(), "is not allowed; allowed:") {
				t.Errorf("%s: %v", path, err)
			}
		}
	})
	t.Run("nobody else's socket", func(t *testing.T) {
		info, err := os.Stat(d.cfg.InspectSocket())
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("socket: %v, %v", info, err)
		}
	})
}
