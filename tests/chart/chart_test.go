package chart_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/tendril-cni/tendril/tests/chart"
)

const root = "../.."

// values reads what a person would write.
func values(t *testing.T, text string) map[string]any {
	t.Helper()
	var out map[string]any
	if err := yaml.UnmarshalStrict([]byte(text), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func render(t *testing.T, text string) []unstructured.Unstructured {
	t.Helper()
	documents, err := chart.Render(root, chart.Release{Values: values(t, text), APIs: []string{"tendril.dev/v1alpha1/VFPolicy"}})
	if err != nil {
		t.Fatal(err)
	}
	var out []unstructured.Unstructured
	for _, d := range documents {
		var o unstructured.Unstructured
		if err := yaml.UnmarshalStrict([]byte(d), &o.Object); err != nil {
			t.Fatalf("%v in\n%s", err, d)
		}
		out = append(out, o)
	}
	return out
}

// find returns the object of that kind and name as T.
func find[T any](t *testing.T, objects []unstructured.Unstructured, kind, name string) *T {
	t.Helper()
	for _, o := range objects {
		if o.GetKind() != kind || o.GetName() != name {
			continue
		}
		data, err := json.Marshal(o.Object)
		if err != nil {
			t.Fatal(err)
		}
		var out T
		d := json.NewDecoder(bytes.NewReader(data))
		d.DisallowUnknownFields()
		if err := d.Decode(&out); err != nil {
			t.Fatalf("%s %s: %v", kind, name, err)
		}
		return &out
	}
	return nil
}

func TestPlainManifestsAreThoseOfTheChart(t *testing.T) {
	files, err := chart.Plain(root)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		got, err := os.ReadFile(filepath.Join(root, "deployment", "manifests", name))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("deployment/manifests/%s is not what the chart says (%v): run make manifests", name, err)
		}
	}
	there, err := filepath.Glob(filepath.Join(root, "deployment", "manifests", "*"))
	if err != nil || len(there) != len(files) {
		t.Errorf("deployment/manifests has %d files (%v), of which %d are made: %v", len(there), err, len(files), there)
	}
}

// TestLint: what `helm lint --strict` says.
func TestLint(t *testing.T) {
	for _, m := range lint.All(filepath.Join(root, chart.Dir), nil, "tendril-system", true).Messages {
		// An icon is for catalogues.
		if m.Severity > support.InfoSev {
			t.Errorf("%v", m)
		}
	}
}

// TestPlatforms: where the files of each distribution are, as its documents say.
func TestPlatforms(t *testing.T) {
	for platform, want := range map[string][3]string{
		"kubernetes": {"/opt/cni/bin", "/etc/cni/net.d", "/var/lib/kubelet"},
		"openshift":  {"/var/lib/cni/bin", "/etc/kubernetes/cni/net.d", "/var/lib/kubelet"},
		"k3s":        {"/var/lib/rancher/k3s/data/cni", "/var/lib/rancher/k3s/agent/etc/cni/net.d", "/var/lib/kubelet"},
		"rke2":       {"/opt/cni/bin", "/etc/cni/net.d", "/var/lib/kubelet"},
		"microk8s":   {"/var/snap/microk8s/current/opt/cni/bin", "/var/snap/microk8s/current/args/cni-network", "/var/snap/microk8s/common/var/lib/kubelet"},
	} {
		t.Run(platform, func(t *testing.T) { wantPaths(t, "platform: "+platform, want) })
	}
	t.Run("own", func(t *testing.T) {
		wantPaths(t, "{platform: k3s, paths: {cniBin: /b, kubelet: /k}}", [3]string{"/b", "/var/lib/rancher/k3s/agent/etc/cni/net.d", "/k"})
	})
}

func wantPaths(t *testing.T, text string, want [3]string) {
	t.Helper()
	for _, mode := range []string{"false", "true"} {
		v := values(t, text)
		v["node"] = map[string]any{"uninstall": mode == "true"}
		data, _ := yaml.Marshal(v)
		pod := find[appsv1.DaemonSet](t, render(t, string(data)), "DaemonSet", "tendrild").Spec.Template.Spec
		c := append(pod.InitContainers, pod.Containers...)[0]
		for i, flag := range []string{"--cni-bin-dir", "--cni-conf-dir", "--kubelet-root"} {
			if !contains(c.Args, flag+"="+want[i]) {
				t.Errorf("uninstall %s: no %s=%s in %v", mode, flag, want[i], c.Args)
			}
		}
		mounted := mounts(pod, c)
		dirs := []string{want[0], want[1]}
		if mode == "false" {
			dirs = append(dirs, want[2]+"/device-plugins", want[2]+"/plugins_registry", want[2]+"/pod-resources")
		}
		for _, dir := range dirs {
			if mounted[dir] != dir {
				t.Errorf("uninstall %s: %s is mounted from %q, want the same path", mode, dir, mounted[dir])
			}
		}
		if mounted[want[2]] != "" {
			t.Errorf("uninstall %s: the whole of %s is mounted, and the pods' secrets with it", mode, want[2])
		}
	}
}

// mounts are the host's directories by the path that the container sees.
func mounts(pod corev1.PodSpec, c corev1.Container) map[string]string {
	host := map[string]string{}
	for _, v := range pod.Volumes {
		if v.HostPath != nil {
			host[v.Name] = v.HostPath.Path
		}
	}
	out := map[string]string{}
	for _, m := range c.VolumeMounts {
		out[m.MountPath] = host[m.Name]
	}
	return out
}

func contains(all []string, one string) bool {
	for _, s := range all {
		if s == one {
			return true
		}
	}
	return false
}

// TestInvariant9SchemaNamesFieldAndAllowed: a wrong value is refused before
// anything is applied.
func TestInvariant9SchemaNamesFieldAndAllowed(t *testing.T) {
	for text, want := range map[string][]string{
		"platform: k8s":                                 {"/platform", "kubernetes", "openshift", "k3s", "rke2", "microk8s"},
		"paths: {cniBin: opt/cni/bin}":                  {"/paths/cniBin", "opt/cni/bin"},
		"paths: {bin: /opt}":                            {"/paths", "bin"},
		"image: {digest: sha256:0}":                     {"/image/digest", "sha256:"},
		"image: {pullPolicy: Sometimes}":                {"/image/pullPolicy", "Always", "IfNotPresent", "Never"},
		"controller: {replicas: 0}":                     {"/controller/replicas", "minimum", "1"},
		"node: {maxUnavailable: all}":                   {"/node/maxUnavailable", "%"},
		"node: {logLevel: trace}":                       {"/node/logLevel", "debug", "info", "warn", "error"},
		"webhook: {failurePolicy: Maybe}":               {"/webhook/failurePolicy", "Fail", "Ignore"},
		"webhook: {certificate: {mode: none}}":          {"/webhook/certificate/mode", "self", "certManager", "secret"},
		"pools: [{selectors: {}}]":                      {"/pools/0", "resourceName"},
		"metrics: {port: 99999}":                        {"/metrics/port", "65,535"},
		"metrics: {serviceMonitor: true}":               {"metrics.serviceMonitor", "metrics.expose"},
		"nodes: {}":                                     {"nodes"},
		"vfPolicies: {p: {nicSelector: {}, numVFs: 1}}": {"vfPolicies", "allowed"},
	} {
		_, err := chart.Render(root, chart.Release{Values: values(t, text)})
		if err == nil {
			t.Errorf("%s is accepted", text)
			continue
		}
		for _, w := range want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %q is not in: %v", text, w, err)
			}
		}
	}
}

// TestEveryValueHasAnEffect: an option that nobody reads is a lie.
func TestEveryValueHasAnEffect(t *testing.T) {
	// What else has to be said for a value to matter, and values that are not free.
	context := map[string]string{
		"node.force":                     "{node: {uninstall: true}}",
		"metrics.serviceMonitor":         "{metrics: {expose: true}}",
		"metrics.labels":                 "{metrics: {rules: true}}",
		"webhook.certificate.secretName": "{webhook: {certificate: {mode: secret}}}",
		"webhook.certificate.caBundle":   "{webhook: {certificate: {mode: secret}}}",
		"webhook.certificate.issuerRef":  "{webhook: {certificate: {mode: certManager}}}",
		"apiServer.port":                 "{apiServer: {host: h}}",
	}
	other := map[string]any{
		"platform": "k3s", "image.pullPolicy": "Always", "image.digest": "sha256:" + strings.Repeat("0", 64),
		"webhook.failurePolicy": "Ignore", "webhook.certificate.mode": "secret", "webhook.certificate.caBundle": "AAAA",
		"node.logLevel": "debug", "controller.logLevel": "debug", "node.maxUnavailable": 1,
		"pools": []any{map[string]any{"resourceName": "r"}}, "vfPolicies": map[string]any{"p": map[string]any{"nicSelector": map[string]any{}}},
		"imagePullSecrets": []any{map[string]any{"name": "s"}},
		"node.extraArgs":   []any{"--x"}, "controller.extraArgs": []any{"--x"}, "node.hostPaths": []any{"/x"}, "webhook.excludeNamespaces": []any{"x"},
		"paths.cniBin": "/x", "paths.cniConf": "/x", "paths.kubelet": "/x",
	}
	data, err := os.ReadFile(filepath.Join(root, chart.Dir, "values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	leaves := 0
	walk(values(t, string(data)), "", func(path string, v any) {
		leaves++
		base := values(t, context[path])
		if base == nil {
			base = map[string]any{}
		}
		before := text(t, base)
		changed, ok := other[path]
		if !ok {
			changed = different(v)
		}
		set(base, strings.Split(path, "."), changed)
		if text(t, base) == before {
			t.Errorf("%s: %v has no effect", path, changed)
		}
	})
	if leaves < 40 {
		t.Errorf("%d values were looked at", leaves)
	}
}

// walk visits what is no further map, and maps that are empty.
func walk(m map[string]any, prefix string, visit func(path string, v any)) {
	for k, v := range m {
		inner, ok := v.(map[string]any)
		if !ok || len(inner) == 0 || strings.HasSuffix(k, "resources") || strings.HasSuffix(k, "nodeSelector") {
			visit(prefix+k, v)
			continue
		}
		walk(inner, prefix+k+".", visit)
	}
}

func different(v any) any {
	switch v := v.(type) {
	case bool:
		return !v
	case string:
		return v + "x"
	case float64, int64, int:
		return 7
	case []any:
		return []any{map[string]any{"key": "x"}}
	}
	return map[string]any{"x": "y"}
}

func set(m map[string]any, path []string, v any) {
	for _, k := range path[:len(path)-1] {
		inner, ok := m[k].(map[string]any)
		if !ok {
			inner = map[string]any{}
			m[k] = inner
		}
		m = inner
	}
	m[path[len(path)-1]] = v
}

func text(t *testing.T, v map[string]any) string {
	t.Helper()
	documents, err := chart.Render(root, chart.Release{Values: v, APIs: []string{"tendril.dev/v1alpha1/VFPolicy"}})
	if err != nil {
		t.Fatalf("%v: %v", v, err)
	}
	return strings.Join(documents, "---\n")
}

// TestInvariant10PodsOfTheChart: what a pod may beyond any other pod is written
// here a second time, so that more of it is a decision.
func TestInvariant10PodsOfTheChart(t *testing.T) {
	objects := render(t, "{}")
	pod := find[appsv1.DaemonSet](t, objects, "DaemonSet", "tendrild").Spec.Template.Spec
	got := mounts(pod, pod.Containers[0])
	want := map[string]bool{
		"/etc/tendril": true, "/run/tendril": true, "/var/lib/tendril": true, "/var/lib/cni": true,
		"/var/lib/kubelet/device-plugins": true, "/var/lib/kubelet/plugins_registry": true, "/var/lib/kubelet/pod-resources": true,
		"/var/run/k8s.cni.cncf.io": true, "/var/run/cdi": true, "/host/dev": true, "/opt/cni/bin": true, "/etc/cni/net.d": true, "/etc/cni/tuning": true,
		"/run/netns": true, "/var/run/netns": true,
	}
	for path := range got {
		if !want[path] {
			t.Errorf("tendrild has %s", path)
		}
		delete(want, path)
	}
	if len(want) > 0 {
		t.Errorf("tendrild lacks %v", want)
	}
	if pod.HostPID || pod.HostIPC || !pod.HostNetwork {
		t.Error("tendrild shares other namespaces of the host than the network")
	}
	controller := find[appsv1.Deployment](t, objects, "Deployment", "tendril-controller").Spec.Template.Spec
	c := controller.Containers[0].SecurityContext
	if len(controller.Volumes) > 0 || controller.HostNetwork || !*controller.SecurityContext.RunAsNonRoot || *c.AllowPrivilegeEscalation ||
		!*c.ReadOnlyRootFilesystem || fmt.Sprint(c.Capabilities.Drop) != "[ALL]" {
		t.Errorf("the controller is not restricted: %+v %+v", controller.SecurityContext, c)
	}
}

// TestMonitoringIsThatOfTheRepository: what an operator or a sidecar reads are the
// alerts and the dashboard that tests/observability has tested, and nothing of it
// is there unasked.
func TestMonitoringIsThatOfTheRepository(t *testing.T) {
	for _, o := range render(t, "{}") {
		if strings.Contains(o.GetAPIVersion(), "monitoring.coreos.com") || o.GetName() == "tendril-dashboard" {
			t.Errorf("%s %s is there unasked", o.GetKind(), o.GetName())
		}
	}
	all := render(t, "metrics: {expose: true, serviceMonitor: true, rules: true, dashboard: true, labels: {release: monitoring}}")
	rule := find[unstructured.Unstructured](t, all, "PrometheusRule", "tendril")
	dashboard := find[corev1.ConfigMap](t, all, "ConfigMap", "tendril-dashboard")
	monitor := find[unstructured.Unstructured](t, all, "ServiceMonitor", "tendril")
	if rule == nil || dashboard == nil || monitor == nil {
		t.Fatalf("want a rule, a dashboard and a monitor: %v %v %v", rule, dashboard, monitor)
	}
	alerts, err := os.ReadFile(filepath.Join(root, "deployment", "alerts", "tendril.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(values(t, string(alerts)), rule.Object["spec"]); d != "" {
		t.Errorf("the rule is not the tested one (-want +got):\n%s", d)
	}
	pictured, err := os.ReadFile(filepath.Join(root, "deployment", "grafana", "tendril.json"))
	if err != nil {
		t.Fatal(err)
	}
	if strings.TrimSpace(dashboard.Data["tendril.json"]) != strings.TrimSpace(string(pictured)) || dashboard.Labels["grafana_dashboard"] != "1" {
		t.Errorf("the dashboard is not that of the repository, or has no label for the sidecar: %v", dashboard.Labels)
	}
	for _, o := range []map[string]string{rule.GetLabels(), dashboard.Labels, monitor.GetLabels()} {
		if o["release"] != "monitoring" || o["app.kubernetes.io/part-of"] != "tendril" {
			t.Errorf("labels %v, want those of the values and ours", o)
		}
	}
	scraped := 0
	for _, o := range all {
		if o.GetKind() == "Service" && o.GetLabels()["app.kubernetes.io/part-of"] == "tendril" && strings.HasSuffix(o.GetName(), "-metrics") {
			scraped++
		}
	}
	if scraped != 2 {
		t.Errorf("%d Services to be scraped, want the daemon's and the controller's", scraped)
	}
}

func TestOptions(t *testing.T) {
	one := render(t, "{controller: {replicas: 1}}")
	if find[map[string]any](t, one, "PodDisruptionBudget", "tendril-controller") != nil {
		t.Error("a single replica has a disruption budget that no drain can keep")
	}
	own := render(t, "{webhook: {certificate: {mode: certManager}}}")
	if find[map[string]any](t, own, "Certificate", "tendril-webhook") == nil || find[map[string]any](t, own, "Issuer", "tendril-webhook") == nil ||
		find[corev1.Secret](t, own, "Secret", "tendril-webhook-cert") != nil {
		t.Error("with cert-manager: want its Certificate and Issuer, and no Secret of our own")
	}
	for _, o := range own {
		if o.GetKind() == "Role" && strings.Contains(fmt.Sprint(o.Object), "secrets") {
			t.Error("with cert-manager the controller still has a right to Secrets")
		}
	}
	for _, o := range render(t, "{}") {
		if o.GetKind() == "CustomResourceDefinition" && o.GetAnnotations()["helm.sh/resource-policy"] != "keep" {
			t.Errorf("%s goes with the release", o.GetName())
		}
	}
	pools := find[corev1.ConfigMap](t, render(t, "{pools: [{resourceName: r, selectors: {drivers: [iavf]}}]}"), "ConfigMap", "tendril-pools")
	if pools == nil || !strings.Contains(pools.Data["config.json"], `"resourceList"`) {
		t.Errorf("pools: %+v", pools)
	}
}
