package admission_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	nad "github.com/k8snetworkplumbingwg/network-attachment-definition-client/pkg/apis/k8s.cni.cncf.io/v1"
	nadclient "github.com/k8snetworkplumbingwg/network-attachment-definition-client/pkg/client/clientset/versioned"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/tendril-cni/tendril/cmd/tendril-controller/admission"
	lab "github.com/tendril-cni/tendril/tests/lab/kube"
	"github.com/tendril-cni/tendril/webhook/certs"
)

const patience = time.Minute

const identity = "system:serviceaccount:tendril-system:tendril-controller"

var discard = slog.New(slog.NewTextHandler(io.Discard, nil))

// server is one real API server for the tests of the package; front is where it
// finds the webhooks.
var server lab.Shared

func TestMain(m *testing.M) { server.Main(m) }

// world is the cluster as its administrator sees it, with the manifest applied
// and a namespace for the test.
type world struct {
	t         *testing.T
	api       *lab.API
	client    *kubernetes.Clientset
	networks  *nadclient.Clientset
	namespace string
	front     *front
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, api: server.API(t)}
	config := server.Config(t)
	// Who looks at warnings asks for them.
	config.WarningHandler = rest.NoWarnings{}
	var err error
	if w.client, err = kubernetes.NewForConfig(config); err != nil {
		t.Fatal(err)
	}
	if w.networks, err = nadclient.NewForConfig(config); err != nil {
		t.Fatal(err)
	}
	w.front = newFront(t)
	w.install()
	ns, err := w.client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w.namespace = ns.Name
	t.Cleanup(w.uninstall)
	return w
}

// install applies the manifest. The API server here is in no cluster, so it is
// told an address instead of the Service.
func (w *world) install() {
	w.t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "deployment", "manifests", "controller.yaml"))
	if err != nil {
		w.t.Fatal(err)
	}
	manifest := string(text)
	for _, path := range []string{"/mutate", "/validate"} {
		service := "service: {name: tendril-webhook, namespace: tendril-system, path: " + path + "}"
		if !strings.Contains(manifest, service) {
			w.t.Fatalf("the manifest has no %q", service)
		}
		manifest = strings.ReplaceAll(manifest, service, fmt.Sprintf("url: https://localhost:%d%s", w.front.port(), path))
	}
	if err := w.api.Apply(w.t.Context(), "{apiVersion: v1, kind: Namespace, metadata: {name: tendril-system}}\n---\n"+manifest); err != nil {
		w.t.Fatal(err)
	}
}

// uninstall takes the webhooks out of the way of the next test.
func (w *world) uninstall() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_ = w.client.AdmissionregistrationV1().MutatingWebhookConfigurations().Delete(ctx, "tendril", metav1.DeleteOptions{})
	_ = w.client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Delete(ctx, "tendril", metav1.DeleteOptions{})
	_ = w.client.CoreV1().Secrets("tendril-system").Delete(ctx, "tendril-webhook-cert", metav1.DeleteOptions{})
	_ = w.client.CoreV1().ConfigMaps("tendril-system").Delete(ctx, "nri-control-switches", metav1.DeleteOptions{})
}

// replica runs a controller with the rights of the manifest until the test ends
// or stop is called.
type replica struct {
	port, health int
	stop         func()
}

func (w *world) replica(change ...func(*admission.Config)) *replica {
	w.t.Helper()
	r := &replica{port: freePort(w.t), health: freePort(w.t)}
	cfg := admission.Defaults()
	cfg.Kubeconfig = w.kubeconfig()
	cfg.BindAddress, cfg.Port, cfg.HealthPort = "127.0.0.1", r.port, r.health
	cfg.Policy = certs.Policy{Names: []string{"localhost"}}
	cfg.Drain, cfg.Log = 0, discard
	for _, c := range change {
		c(&cfg)
	}
	r.health = cfg.HealthPort
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := admission.Run(ctx, cfg); err != nil {
			w.t.Errorf("replica: %v", err)
		}
	}()
	r.stop = sync.OnceFunc(func() {
		w.front.remove(r.port)
		cancel()
		<-done
	})
	w.t.Cleanup(r.stop)
	w.eventually("replica ready", func() error { return probe(r.health, "/readyz") })
	w.front.add(r.port)
	return r
}

// kubeconfig is that of the service account.
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

func freePort(t *testing.T) int {
	t.Helper()
	port, err := lab.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func probe(port int, path string) error {
	client := http.Client{Timeout: 5 * time.Second}
	resp, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d%s", port, path))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %s", path, resp.Status, bytes.TrimSpace(body))
	}
	return nil
}

func (w *world) eventually(what string, check func() error) {
	w.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			w.t.Fatalf("%s: not within %v: %v", what, patience, err)
		}
	}
}

func (w *world) define(name, config string, annotations map[string]string) error {
	d := &nad.NetworkAttachmentDefinition{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: annotations}, Spec: nad.NetworkAttachmentDefinitionSpec{Config: config}}
	_, err := w.networks.K8sCniCncfIoV1().NetworkAttachmentDefinitions(w.namespace).Create(w.t.Context(), d, metav1.CreateOptions{})
	return err
}

func (w *world) mustDefine(name, config string, annotations map[string]string) {
	w.t.Helper()
	if err := w.define(name, config, annotations); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) pod(name string, annotations, labels map[string]string) (*corev1.Pod, error) {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: annotations, Labels: labels},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "none"}, {Name: "d", Image: "none"}}},
	}
	return w.client.CoreV1().Pods(w.namespace).Create(w.t.Context(), pod, metav1.CreateOptions{})
}

func (w *world) bundle() []byte {
	c, err := w.client.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(w.t.Context(), "tendril", metav1.GetOptions{})
	if err != nil || len(c.Webhooks) == 0 {
		return nil
	}
	return c.Webhooks[0].ClientConfig.CABundle
}

// handshake is what an API server with that bundle does. It returns the serial
// number of the leaf.
func handshake(port int, bundle []byte) (serial string, err error) {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(bundle)
	d := &net.Dialer{Timeout: 10 * time.Second}
	c, err := tls.DialWithDialer(d, "tcp", fmt.Sprintf("127.0.0.1:%d", port), &tls.Config{RootCAs: roots, ServerName: "localhost"})
	if err != nil {
		return "", err
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0].SerialNumber.String(), nil
}

// front forwards connections to replicas in turn, as a Service does.
type front struct {
	ln   net.Listener
	mu   sync.Mutex // guards back
	back []int
	next atomic.Uint64
}

func newFront(t *testing.T) *front {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &front{ln: ln}
	var group sync.WaitGroup
	group.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			group.Go(func() { f.forward(c) })
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
	})
	return f
}

func (f *front) port() int { return f.ln.Addr().(*net.TCPAddr).Port }

func (f *front) add(port int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.back = append(f.back, port)
}

func (f *front) remove(port int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, p := range f.back {
		if p == port {
			f.back = append(f.back[:i:i], f.back[i+1:]...)
			return
		}
	}
}

func (f *front) pick() (int, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.back) == 0 {
		return 0, false
	}
	return f.back[f.next.Add(1)%uint64(len(f.back))], true
}

func (f *front) forward(c net.Conn) {
	defer c.Close()
	port, ok := f.pick()
	if !ok {
		return
	}
	b, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return
	}
	defer b.Close()
	go func() {
		_, _ = io.Copy(b, c)
		_ = b.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(c, b)
}

// switches sets the injector's ConfigMap.
func (w *world) switches(config string) {
	w.t.Helper()
	text, err := json.Marshal(map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]string{"name": "nri-control-switches"}, "data": map[string]string{"config.json": config}})
	if err != nil {
		w.t.Fatal(err)
	}
	_, err = w.client.CoreV1().ConfigMaps("tendril-system").Patch(w.t.Context(), "nri-control-switches", types.ApplyPatchType, text, metav1.PatchOptions{FieldManager: "test"})
	if err != nil {
		w.t.Fatal(err)
	}
}
