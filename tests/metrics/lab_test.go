//go:build lab

package metrics_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	podapi "k8s.io/kubelet/pkg/apis/podresources/v1"

	"github.com/tendril-cni/tendril/cmd/tendrild/node"
	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netns"
	"github.com/tendril-cni/tendril/cni/netns/netnstest"
	"github.com/tendril-cni/tendril/cni/rpc"
)

const (
	patience    = time.Minute
	metricsAddr = "127.0.0.1:19771"
)

// cluster has one pod, blue/web, that asks for a VF beside its default network.
type cluster struct{}

func (cluster) Pod(_ context.Context, namespace, name, uid string) (cni.Pod, error) {
	return cni.Pod{PodRef: cni.PodRef{Namespace: namespace, Name: name, UID: uid}, Annotations: map[string]string{"k8s.v1.cni.cncf.io/networks": "fast"}}, nil
}

func (cluster) Definition(_ context.Context, namespace, name string) (cni.Definition, error) {
	return cni.Definition{Namespace: namespace, Name: name, Resource: "tendril.dev/fast", Config: `{"cniVersion":"1.0.0","type":"sriov"}`}, nil
}

func (cluster) Publish(cni.PodRef, []cni.NetworkStatus) {}
func (cluster) Added(cni.PodRef, []cni.Made)            {}
func (cluster) Refused(cni.PodRef, error)               {}

// kubelet has given that pod the VF.
type kubelet struct {
	podapi.UnimplementedPodResourcesListerServer
	vf string
}

func (k kubelet) List(context.Context, *podapi.ListPodResourcesRequest) (*podapi.ListPodResourcesResponse, error) {
	return &podapi.ListPodResourcesResponse{PodResources: []*podapi.PodResources{{Namespace: "blue", Name: "web", Containers: []*podapi.ContainerResources{{
		Name: "app", Devices: []*podapi.ContainerDevices{{ResourceName: "tendril.dev/fast", DeviceIds: []string{k.vf}}},
	}}}}}, nil
}

// start runs the daemon on this machine.
func start(t *testing.T, vf string) node.Config {
	t.Helper()
	master, _ := netnstest.Veth(t)
	dir, err := os.MkdirTemp("", "tm") // a socket's path has to be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	for name, text := range map[string]string{
		"net.d/10-default.conflist": fmt.Sprintf(`{"cniVersion":"1.0.0","name":"default","plugins":[{"type":"macvlan","master":%q}]}`, master.Attrs().Name),
		"pools.json":                `{"resourceList":[{"resourcePrefix":"tendril.dev","resourceName":"fast","selectors":{"pfNames":["sriov0"]}}]}`,
		"kubelet/pod-resources/.k":  "",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	l, err := net.Listen("unix", filepath.Join(dir, "kubelet/pod-resources/kubelet.sock"))
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	podapi.RegisterPodResourcesListerServer(s, kubelet{vf: vf})
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	cfg := node.Config{NodeName: "n1", RunDir: filepath.Join(dir, "run"), StateDir: filepath.Join(dir, "state"), MetricsAddr: metricsAddr,
		ConfigFile: filepath.Join(dir, "pools.json"), SysfsRoot: "/sys", KubeletRoot: filepath.Join(dir, "kubelet"),
		CNIBinDir: filepath.Join(dir, "bin"), CNIConfDir: filepath.Join(dir, "net.d"),
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Cluster: cluster{}, Report: cluster{}}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- node.Run(ctx, cfg) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("daemon: %v", err)
		}
	})
	return cfg
}

// call is one CNI call for that pod.
func call(t *testing.T, cfg node.Config, command string, pod *os.File) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	reply, err := rpc.Client{Socket: cfg.Socket(), Patience: patience}.Call(ctx, rpc.Request{
		ID: "lab-" + command, Command: command, ContainerID: "c1", IfName: "eth0", NetnsPath: fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), pod.Fd()),
		Args: "K8S_POD_NAMESPACE=blue;K8S_POD_NAME=web;K8S_POD_UID=u1", StdinData: []byte(`{"cniVersion":"1.0.0","name":"tendril","type":"tendril"}`),
	}, pod)
	if err != nil || reply.ExitCode != 0 {
		t.Fatalf("%s: %v: %s", command, err, reply.Stdout)
	}
}

// value polls a metric, whole with its labels, until it is at least that.
func value(t *testing.T, series string, least float64) {
	t.Helper()
	line := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(series) + ` (\S+)$`)
	var text string
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		res, err := http.Get("http://" + metricsAddr + "/metrics")
		if err != nil {
			continue
		}
		data, err := io.ReadAll(res.Body)
		res.Body.Close()
		text = string(data)
		m := line.FindStringSubmatch(text)
		if err != nil || m == nil {
			continue
		}
		if v, err := strconv.ParseFloat(m[1], 64); err == nil && v >= least {
			return
		}
	}
	var about []string
	for l := range strings.SplitSeq(text, "\n") {
		if strings.HasPrefix(l, "sriov_") || strings.Contains(l, "failed") || strings.HasPrefix(l, "tendril_vfs") {
			about = append(about, l)
		}
	}
	t.Fatalf("no %s of at least %v in\n%s", series, least, strings.Join(about, "\n"))
}

// send sends frames from the pod's interface, so that its VF has something to count.
func send(t *testing.T, pod *os.File, ifName string, frames int) {
	t.Helper()
	index := netnstest.Link(t, netnstest.Handle(t, pod), ifName).Attrs().Index
	fd := -1
	if err := netns.Do(pod, func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	frame := append([]byte{255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 9, 0x88, 0xb5}, make([]byte, 500)...)
	for sent, end := 0, time.Now().Add(patience); sent < frames; {
		// A VF that just came up has no carrier for a moment (ENETDOWN).
		switch err := unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: index, Halen: 6}); {
		case err == nil:
			sent++
		case time.Now().After(end):
			t.Fatal(err)
		default:
			time.Sleep(50 * time.Millisecond)
		}
	}
}

// TestVFOfAPodIsCounted: the VF's device is in the pod and igb counts nothing for
// its VFs, and yet its numbers are there, under the exporter's names, with the pod.
func TestVFOfAPodIsCounted(t *testing.T) {
	h := netnstest.Handle(t, nil)
	if err := h.LinkSetUp(netnstest.Link(t, h, "sriov0")); err != nil {
		t.Fatal(err)
	}
	to, err := os.Readlink("/sys/class/net/sriov0/device/virtfn2")
	if err != nil {
		t.Fatal(err)
	}
	vf := filepath.Base(to)
	cfg := start(t, vf)
	pod := netnstest.Pod(t)
	numa, err := os.ReadFile("/sys/bus/pci/devices/" + vf + "/numa_node")
	if err != nil {
		t.Fatal(err)
	}
	labels := func(namespace, ifName, network, name string) string {
		return fmt.Sprintf(`{interface=%q,namespace=%q,network=%q,numa_node=%q,pciAddr=%q,pf="sriov0",pod=%q,vf="2"}`,
			ifName, namespace, network, strings.TrimSpace(string(numa)), vf, name)
	}
	value(t, "sriov_vf_rx_bytes"+labels("", "", "", ""), 0)
	call(t, cfg, "ADD", pod)
	defer call(t, cfg, "DEL", pod)
	value(t, `tendril_vfs{resource="tendril.dev/fast",state="used"}`, 1)
	value(t, fmt.Sprintf(`sriov_kubepoddevice{container="app",dev_type="tendril.dev/fast",namespace="blue",pciAddr=%q,pod="web"}`, vf), 1)
	send(t, pod, "net1", 20)
	mine := labels("blue", "net1", "blue/fast", "web")
	value(t, "sriov_vf_tx_packets"+mine, 20)
	value(t, "sriov_vf_tx_bytes"+mine, 20*500)
	for _, name := range []string{"rx_bytes", "rx_packets", "rx_dropped", "tx_dropped", "rx_multicast", "tx_errors"} {
		value(t, "sriov_vf_"+name+mine, 0)
	}
	value(t, `tendril_scrape_failed{source="vfs"}`, 0)
	value(t, `tendril_step_duration_seconds_count{kind="sriov",step="attach",verb="ADD"}`, 1)
}
