package addresses

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tendril-cni/tendril/cmd/tendrild/node"
	"github.com/tendril-cni/tendril/cni/journal"
	"github.com/tendril-cni/tendril/cni/netns/netnstest"
	"github.com/tendril-cni/tendril/cni/rpc"
	lab "github.com/tendril-cni/tendril/tests/lab/kube"
)

// loopback sets up the one of the test's namespace, on which the API server is.
func loopback() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
}

// machine is one node: what is left when its daemon ends is its directory.
type machine struct {
	t       *testing.T
	cluster *cluster
	name    string
	dir     string
	master  string

	stop context.CancelFunc
	done chan error
}

// newMachine makes a Node object and a node whose networks ride on master.
func newMachine(t *testing.T, c *cluster, name, master string) *machine {
	t.Helper()
	_, err := c.client.CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "ta") // sockets have short names
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, cluster: c, name: name, dir: dir, master: master}
	t.Cleanup(func() { m.halt(); os.RemoveAll(dir) })
	if err := os.MkdirAll(m.path("sys/bus/pci/devices"), 0o755); err != nil {
		t.Fatal(err)
	}
	m.write("net.d/10-default.conflist", fmt.Sprintf(
		`{"cniVersion":"1.0.0","name":"default","plugins":[{"type":"macvlan","master":%q,"ipam":{"type":"host-local","subnet":"203.0.113.0/24"}}]}`, master))
	return m
}

func (m *machine) write(name, text string) {
	m.t.Helper()
	path := filepath.Join(m.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) path(name string) string { return filepath.Join(m.dir, name) }

// boot starts the daemon.
func (m *machine) boot() *machine {
	m.t.Helper()
	log := logFile(m.t, m.name)
	ctx, stop := context.WithCancel(context.Background())
	m.stop, m.done = stop, make(chan error, 1)
	config := m.config(slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	done := m.done
	go func() { done <- node.Run(ctx, config) }()
	m.t.Cleanup(func() {
		if m.t.Failed() {
			text, _ := os.ReadFile(log.Name())
			m.t.Logf("log of %s:\n%s", m.name, text)
		}
	})
	return m
}

// config is that of the daemon.
func (m *machine) config(log *slog.Logger) node.Config {
	return node.Config{
		NodeName: m.name, Kubeconfig: m.cluster.api.Kubeconfig(lab.Admin),
		RunDir: m.path("run"), StateDir: m.path("state"), SysfsRoot: m.path("sys"), KubeletRoot: m.path("kubelet"),
		CNIBinDir: m.path("bin"), CNIConfDir: m.path("net.d"), Log: log,
	}
}

// halt ends the daemon.
func (m *machine) halt() {
	if m.stop == nil {
		return
	}
	m.stop()
	if err := <-m.done; err != nil {
		m.t.Errorf("daemon of %s: %v", m.name, err)
	}
	m.stop = nil
}

// reboot is what a boot does to a node whose daemon has ended: the tmpfs is empty
// and the kernel's id another one.
func (m *machine) reboot() {
	m.t.Helper()
	if err := os.RemoveAll(m.path("run")); err != nil {
		m.t.Fatal(err)
	}
	j, err := journal.Open(journal.Options{Path: m.path("state/journal.db"), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		m.t.Fatal(err)
	}
	defer j.Close()
	if err := j.Update("test", func(tx *journal.Tx) error { return tx.SetBoot("an earlier boot") }); err != nil {
		m.t.Fatal(err)
	}
}

// pod is a pod with one sandbox.
type pod struct {
	namespace, name, uid string
	sandbox              string
	ns                   *os.File
}

// pod makes a Pod object on the machine, that asks for networks.
func (m *machine) pod(namespace, name, networks string) *pod {
	m.t.Helper()
	return m.owned(namespace, name, networks)
}

// ordinal is pod for one of a StatefulSet's.
func (m *machine) ordinal(namespace, name, networks string) *pod {
	m.t.Helper()
	yes := true
	return m.owned(namespace, name, networks, metav1.OwnerReference{APIVersion: "apps/v1", Kind: "StatefulSet", Name: "db", UID: "set", Controller: &yes})
}

func (m *machine) owned(namespace, name, networks string, by ...metav1.OwnerReference) *pod {
	m.t.Helper()
	made, err := m.cluster.client.CoreV1().Pods(namespace).Create(m.t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{"k8s.v1.cni.cncf.io/networks": networks}, OwnerReferences: by},
		Spec:       corev1.PodSpec{NodeName: m.name, Containers: []corev1.Container{{Name: "c", Image: "none"}}},
	}, metav1.CreateOptions{})
	if err != nil {
		m.t.Fatal(err)
	}
	p := &pod{namespace: namespace, name: name, uid: string(made.UID)}
	p.sandboxed(m.t)
	return p
}

// sandboxed gives the pod a new sandbox.
func (p *pod) sandboxed(t *testing.T) {
	p.sandbox, p.ns = netnstest.Name("sandbox"), netnstest.Pod(t)
}

// call makes a CNI call as the shim does.
func (m *machine) call(command string, p *pod) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	reply, err := rpc.Client{Socket: m.path("run/tendril.sock"), Patience: patience}.Call(ctx, rpc.Request{
		ID: command, Command: command, ContainerID: p.sandbox, IfName: "eth0", NetnsPath: fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), p.ns.Fd()),
		Args:      fmt.Sprintf("K8S_POD_NAMESPACE=%s;K8S_POD_NAME=%s;K8S_POD_UID=%s", p.namespace, p.name, p.uid),
		StdinData: []byte(`{"cniVersion":"1.0.0","name":"tendril","type":"tendril"}`),
	}, p.ns)
	if err == nil && reply.ExitCode != 0 {
		err = fmt.Errorf("%s", reply.Stdout)
	}
	return string(reply.Stdout), err
}

// add attaches the pod and returns the addresses of an interface, as the kernel
// has them.
func (m *machine) add(p *pod, ifName string) ([]netip.Prefix, error) {
	if _, err := m.call("ADD", p); err != nil {
		return nil, err
	}
	return addressesOf(m.t, p.ns, ifName), nil
}

func (m *machine) mustAdd(p *pod, ifName string) []netip.Prefix {
	m.t.Helper()
	got, err := m.add(p, ifName)
	if err != nil {
		m.t.Fatal(err)
	}
	return got
}

func (m *machine) mustDel(p *pod) {
	m.t.Helper()
	if _, err := m.call("DEL", p); err != nil {
		m.t.Fatal(err)
	}
}

// addressesOf reads the global addresses of a link in a pod.
func addressesOf(t *testing.T, ns *os.File, ifName string) (out []netip.Prefix) {
	t.Helper()
	h := netnstest.Handle(t, ns)
	list, err := h.AddrList(netnstest.Link(t, h, ifName), netlink.FAMILY_ALL)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range list {
		if p, err := netip.ParsePrefix(a.IPNet.String()); err == nil && !p.Addr().IsLinkLocalUnicast() {
			out = append(out, p)
		}
	}
	return out
}

// refused is the code and the text of a CNI error.
func refused(t *testing.T, err error) (code int, text string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	var e struct {
		Code int    `json:"code"`
		Msg  string `json:"msg"`
	}
	if at := strings.Index(err.Error(), "{"); at < 0 || json.Unmarshal([]byte(err.Error()[at:]), &e) != nil {
		t.Fatalf("no CNI error: %v", err)
	}
	return e.Code, e.Msg
}
