//go:build cluster

package admission

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	nad "github.com/k8snetworkplumbingwg/network-attachment-definition-client/pkg/apis/k8s.cni.cncf.io/v1"
	nadclient "github.com/k8snetworkplumbingwg/network-attachment-definition-client/pkg/client/clientset/versioned"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/tendril-cni/tendril/tests/lab/cache"
	"github.com/tendril-cni/tendril/tests/lab/cluster"
	"github.com/tendril-cni/tendril/tests/stage"
	"github.com/tendril-cni/tendril/tests/stage/suite"
)

func TestMain(m *testing.M) { cluster.Main(m) }

// TestOnTheCluster holds the order: later parts play on the same stage.
func TestOnTheCluster(t *testing.T) {
	p := &play{Suite: suite.Open(t, stage.Options{Nodes: 1})}
	p.Must(t, p.connect())
	p.Acts(t,
		suite.Scene{Name: "TwoReplicasAreReady", Run: p.replicas},
		suite.Scene{Name: "Invariant10PodsAreRestricted", Run: p.restricted},
		suite.Scene{Name: "PodGetsItsVFByTheAnnotationAlone", Run: p.injected},
		suite.Scene{Name: "Invariant9DenialNamesThePosition", Run: p.denied},
		suite.Scene{Name: "NodesReportWhatTheyHave", Run: p.reported},
		suite.Scene{Name: "ReplicaReplacedUnderLoad", Run: p.replaced},
		suite.Scene{Name: "ReplicaKilledUnderLoad", Run: p.killed},
		suite.Scene{Name: "CertificatesTurnOverUnderLoad", Run: p.rotated},
		suite.Scene{Name: "Invariant1BothReplicasAway", Run: p.away},
	)
	if t.Failed() {
		t.Log(p.Kubectl(p.Ctx, "-n", system, "logs", "-l", controllerLabel, "--tail=40", "--prefix"))
	}
}

const (
	system          = "tendril-system"
	controllerLabel = "app.kubernetes.io/name=tendril-controller"
	networks        = "k8s.v1.cni.cncf.io/networks"
)

type play struct {
	*suite.Suite
	api      *kubernetes.Clientset
	networks *nadclient.Clientset
	warnings warnings
}

// warnings are what the API server said beside its answers.
type warnings struct {
	mu   sync.Mutex // guards text
	text []string
}

// HandleWarningHeader implements rest.WarningHandler.
func (w *warnings) HandleWarningHeader(_ int, _, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text = append(w.text, text)
}

// take returns what was said since it was last called.
func (w *warnings) take() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := strings.Join(w.text, "\n")
	w.text = nil
	return out
}

func (p *play) connect() error {
	config, err := p.RESTConfig()
	if err != nil {
		return err
	}
	config.WarningHandler = &p.warnings
	if p.api, err = kubernetes.NewForConfig(config); err != nil {
		return err
	}
	p.networks, err = nadclient.NewForConfig(config)
	return err
}

// ready waits until n replicas are ready and no other is left.
func (p *play) ready(t *testing.T, n int) {
	t.Helper()
	p.Wait(t, fmt.Sprintf("%d replicas to be ready", n), func(ctx context.Context) (string, bool, error) {
		d, err := p.api.AppsV1().Deployments(system).Get(ctx, "tendril-controller", metav1.GetOptions{})
		if err != nil {
			return "", false, err
		}
		pods := p.controllers(ctx)
		seen := fmt.Sprintf("generation %d of %d, updated %d, ready %d, pods %d", d.Status.ObservedGeneration, d.Generation, d.Status.UpdatedReplicas, d.Status.ReadyReplicas, len(pods))
		s := d.Status
		return seen, s.ObservedGeneration == d.Generation && int(s.UpdatedReplicas) == n && int(s.ReadyReplicas) == n && len(pods) == n, nil
	})
}

// controllers are the replicas' pods, those that are ending included.
func (p *play) controllers(ctx context.Context) []corev1.Pod {
	list, err := p.api.CoreV1().Pods(system).List(ctx, metav1.ListOptions{LabelSelector: controllerLabel})
	if err != nil {
		return nil
	}
	return list.Items
}

// install applies the manifest, with patience: on a machine that is busy with
// other things all of the node may stand still for seconds, and what is shown here
// is that nothing fails, not how fast it is.
func (p *play) install(t *testing.T) {
	t.Helper()
	repo, err := cache.Repo()
	p.Must(t, err)
	text, err := os.ReadFile(filepath.Join(repo, "deployment", "manifests", "controller.yaml"))
	p.Must(t, err)
	manifest := string(text)
	for short, long := range map[string]string{"\n    timeoutSeconds: 5\n": "\n    timeoutSeconds: 30\n", "\n            timeoutSeconds: 3\n": "\n            timeoutSeconds: 20\n"} {
		if !strings.Contains(manifest, short) {
			t.Fatalf("the manifest has no %q", short)
		}
		manifest = strings.ReplaceAll(manifest, short, long)
	}
	p.Must(t, p.Apply(p.Ctx, manifest))
}

func (p *play) replicas(t *testing.T) {
	start := time.Now()
	p.install(t)
	p.ready(t, 2)
	t.Logf("both replicas are ready %v after the manifest was applied", time.Since(start).Round(time.Second))
	c, err := p.api.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(p.Ctx, "tendril", metav1.GetOptions{})
	p.Must(t, err)
	if len(c.Webhooks[0].ClientConfig.CABundle) == 0 {
		t.Error("the replicas are ready and nobody is told to trust them")
	}
	p.Must(t, p.ApplyFiles(p.Ctx, "deployment/examples/networks.yaml"))
}

// restricted has the API server judge the pods that run here by the strictest
// standard: it names the daemon's, which needs the host, and not ours.
func (p *play) restricted(t *testing.T) {
	label := []byte(`{"metadata":{"labels":{"pod-security.kubernetes.io/enforce":"restricted"}}}`)
	p.warnings.take()
	_, err := p.api.CoreV1().Namespaces().Patch(p.Ctx, system, types.MergePatchType, label, metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}})
	p.Must(t, err)
	if warned := p.warnings.take(); !strings.Contains(warned, "tendrild-") || strings.Contains(warned, "tendril-controller") {
		t.Errorf("the API server says %q", warned)
	}
}

// pod is a pod that asks for networks in its annotation alone; none for "".
func pod(name, annotation string) *corev1.Pod {
	out := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"},
		Spec: corev1.PodSpec{
			TerminationGracePeriodSeconds: new(int64(1)),
			Containers:                    []corev1.Container{{Name: "shell", Image: cluster.ToolsImage, ImagePullPolicy: corev1.PullIfNotPresent, Command: []string{"sleep", "1000000"}}},
		},
	}
	if annotation != "" {
		out.Annotations = map[string]string{networks: annotation}
	}
	return out
}

func (p *play) create(what *corev1.Pod, dryRun bool) (*corev1.Pod, error) {
	o := metav1.CreateOptions{}
	if dryRun {
		o.DryRun = []string{metav1.DryRunAll}
	}
	return p.api.CoreV1().Pods(what.Namespace).Create(p.Ctx, what, o)
}

func (p *play) injected(t *testing.T) {
	made, err := p.create(pod("annotated", "fast"), false)
	p.Must(t, err)
	if n := made.Spec.Containers[0].Resources.Limits[stage.Resource]; n.Value() != 1 {
		t.Errorf("the pod asks for %s of %s, want 1", n.String(), stage.Resource)
	}
	p.Must(t, p.PodReady(p.Ctx, "annotated"))
	p.Wait(t, "the pod's network-status", func(ctx context.Context) (string, bool, error) {
		got, err := p.Interfaces(ctx, "annotated")
		if err != nil || len(got) != 2 {
			return fmt.Sprint(got), false, err
		}
		in := got[1]
		return fmt.Sprint(in), in.Name == "net1" && in.Kind == "sriov" && in.Device != "" && in.VLAN == 42, nil
	})
	out, err := p.Exec(p.Ctx, "annotated", "cat", "/etc/podnetinfo/annotations")
	p.Must(t, err)
	if !strings.Contains(out, networks+`="fast"`) {
		t.Errorf("podnetinfo says %s", out)
	}
}

func (p *play) denied(t *testing.T) {
	for annotation, want := range map[string]string{
		`[{"name":"fast"},]`:  "P001: Pod \"default/denied\": field metadata.annotations[" + networks + "]: value",
		`[{"name":"fast"}, ]`: "at line 1, column 19, byte 18",
		"fast,,fast":          "P001",
		"fast,fats":           "namespace default has fast, signalling, storage",
	} {
		_, err := p.create(pod("denied", annotation), true)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want a denial with %q", annotation, err, want)
		}
	}
}

// define makes a definition for nobody: only what is said of it counts.
func (p *play) define(config string) error {
	d := &nad.NetworkAttachmentDefinition{ObjectMeta: metav1.ObjectMeta{Name: "tried"}, Spec: nad.NetworkAttachmentDefinitionSpec{Config: config}}
	_, err := p.networks.K8sCniCncfIoV1().NetworkAttachmentDefinitions("default").Create(p.Ctx, d, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	return err
}

// reported: rules about nodes hold by what the daemon of a node tells of it.
func (p *play) reported(t *testing.T) {
	for config, want := range map[string]string{
		`{"cniVersion":"1.0.0","type":"nonesuch"}`:                     "N003",
		`{"cniVersion":"1.0.0","type":"macvlan","master":"nonesuch0"}`: "N011",
		`{"cniVersion":"1.0.0","type":"macvlan","mastr":"sriov1"}`:     "N015",
		`{"cniVersion":"1.0.0","type":"macvlan","master":"sriov1"}`:    "",
	} {
		p.warnings.take()
		p.Must(t, p.define(config))
		if said := p.warnings.take(); !strings.Contains(said, want) || want == "" && said != "" {
			t.Errorf("%s: the API server says %q, want %q", config, said, want)
		}
	}
}

// away: without a replica, pods that ask for nothing start, running ones are not
// held up, and what asks for networks does not get in unserved. What the static
// policies know to be malformed they still say to be so.
func (p *play) away(t *testing.T) {
	p.Ask(t, "-n", system, "scale", "deployment", "tendril-controller", "--replicas=0")
	p.ready(t, 0)
	_, err := p.create(pod("plain", ""), false)
	p.Must(t, err)
	p.Must(t, p.PodReady(p.Ctx, "plain"))
	p.Ask(t, "label", "pod", "annotated", "while=away")
	if _, err := p.create(pod("asks", "fast"), false); err == nil || !strings.Contains(err.Error(), "mutate-pods.tendril.dev") {
		t.Errorf("a pod that asks for networks: %v, want a failing webhook", err)
	}
	for config, want := range map[string]string{
		`{"name":"x"}`:                           "N002: field spec.config",
		`{"type":"macvlan","mode":"l2"}`:         "N006: field spec.config.mode",
		`{"type":"macvlan","master":"sriov1"}`:   "",
		`{"type":"sriov","vlan":5}`:              "N010: field metadata.annotations",
		`{"type":"bridge","cniVersion":"9.9.9"}`: "N004: field spec.config.cniVersion",
	} {
		if err := p.define(config); want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", config, err, want)
		}
	}
	patch := []byte(`{"metadata":{"annotations":{"` + networks + `":"a,,b"}}}`)
	_, err = p.api.CoreV1().Pods("default").Patch(p.Ctx, "plain", types.MergePatchType, patch, metav1.PatchOptions{})
	if err == nil || !strings.Contains(err.Error(), "P001: field metadata.annotations") {
		t.Errorf("a malformed annotation: %v, want P001", err)
	}
	p.Ask(t, "-n", system, "scale", "deployment", "tendril-controller", "--replicas=2")
	p.ready(t, 2)
	p.Wait(t, "the API server to have found the replicas", func(context.Context) (string, bool, error) {
		_, err := p.create(pod("asks", "fast"), false)
		return "", err == nil, err
	})
	p.Must(t, p.PodReady(p.Ctx, "asks"))
	p.Must(t, p.PodGone(p.Ctx, "asks", "plain", "annotated"))
}
