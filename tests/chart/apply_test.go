package chart_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	lab "github.com/tendril-cni/tendril/tests/lab/kube"
	"github.com/tendril-cni/tendril/webhook/report"
)

// TestCommandsOfTheDocuments: what docs/install.md has a person type, against a
// real API server: installing, the same again, definitions that stay when the rest
// is deleted, and deletion to the last object.
func TestCommandsOfTheDocuments(t *testing.T) {
	api, err := lab.Start(t.Context(), lab.Options{CRDs: []string{}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := api.Close(); err != nil {
			t.Error(err)
		}
	})
	kubectl := func(args ...string) string {
		t.Helper()
		out, err := api.Kubectl(t.Context(), args...)
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return out
	}
	manifest := func(name string) string { return filepath.Join(root, "deployment", "manifests", name) }
	kubectl("apply", "--validate=strict", "-f", manifest("tendril.yaml"))
	kubectl("apply", "-f", manifest("tendril.yaml"))
	for _, kind := range []string{"daemonset/tendrild", "deployment/tendril-controller", "secret/tendril-webhook-cert"} {
		if out := kubectl("-n", "tendril-system", "get", kind, "-o", "jsonpath={.metadata.generation}"); out != "1" && out != "" {
			t.Errorf("%s changed when the same was applied again: generation %s", kind, out)
		}
	}
	kubectl("apply", "--validate=strict", "-f", filepath.Join(root, "deployment", "examples", "pools.yaml"))
	kubectl("apply", "--validate=strict", "-f", filepath.Join(root, "deployment", "examples", "quickstart-networks.yaml"))
	kubectl("delete", "-f", manifest("controller.yaml"))
	if left := objects(kubectl, "webhook"); left != "" {
		t.Errorf("admission is gone, and there is still %s", left)
	}
	kubectl("apply", "--validate=strict", "-f", manifest("uninstall.yaml"))
	args := kubectl("-n", "tendril-system", "get", "daemonset", "tendrild", "-o", "jsonpath={.spec.template.spec.initContainers[0].args[0]} {.spec.template.spec.containers[*].name} {.spec.template.spec.serviceAccountName}")
	if strings.TrimSpace(args) != "--uninstall done tendrild" {
		t.Errorf("the DaemonSet became %q, want the uninstaller", args)
	}
	kubectl("apply", "--validate=strict", "-f", manifest("node.yaml"))
	back := kubectl("-n", "tendril-system", "get", "daemonset", "tendrild", "-o",
		"jsonpath={.spec.template.spec.initContainers}{.spec.template.spec.containers[*].name} {.spec.template.spec.automountServiceAccountToken} {.spec.template.spec.volumes[*].name}")
	if !strings.HasPrefix(back, "tendrild  config run state ") || strings.Contains(back, "token") {
		t.Errorf("the DaemonSet went back to %q, want the daemon and nothing of the uninstaller", back)
	}
	// Without controllers a namespace is never deleted to the end.
	kubectl("delete", "--wait=false", "-f", manifest("node.yaml"), "-l", "app.kubernetes.io/component!=definitions")
	if out := kubectl("get", "network-attachment-definitions", "-o", "name"); !strings.Contains(out, "quickstart") {
		t.Errorf("networks are gone: %q", out)
	}
	kubectl("delete", "--wait=false", "--ignore-not-found", "-f", manifest("node.yaml"))
	for end := time.Now().Add(3 * time.Minute); objects(kubectl, "") != ""; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) { // a definition goes when its objects are gone
			t.Fatalf("left: %s", objects(kubectl, ""))
		}
	}
}

// TestUninstallingTakesEveryAnnotation: what the daemons note on Node objects is
// all taken off by the command of the document.
func TestUninstallingTakesEveryAnnotation(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "docs", "install.md"))
	if err != nil {
		t.Fatal(err)
	}
	command := regexp.MustCompile(`(?m)^ *kubectl annotate nodes --all .*$`).FindString(string(text))
	for _, name := range report.Annotations {
		if !strings.Contains(command, " "+name+"-") {
			t.Errorf("docs/install.md: %q leaves %s", command, name)
		}
	}
}

// objects lists those of Tendril that belong to no namespace.
func objects(kubectl func(...string) string, like string) string {
	var left []string
	for _, kind := range []string{"crd", "clusterrole", "clusterrolebinding", "mutatingwebhookconfiguration", "validatingwebhookconfiguration", "validatingadmissionpolicy", "validatingadmissionpolicybinding"} {
		if !strings.Contains(kind, like) {
			continue
		}
		for name := range strings.FieldsSeq(kubectl("get", kind, "-o", "name")) {
			if strings.Contains(name, "tendril") {
				left = append(left, name)
			}
		}
	}
	return strings.Join(left, " ")
}

// TestChartOfEveryPlatformIsValid: a strict API server takes what the chart makes
// of the values that change most.
func TestChartOfEveryPlatformIsValid(t *testing.T) {
	api, err := lab.Start(t.Context(), lab.Options{CRDs: []string{}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := api.Close(); err != nil {
			t.Error(err)
		}
	})
	for i, text := range []string{
		"{namespace: {create: true}, platform: k3s, multus: {takeOver: true, socket: true}, node: {cdi: true, hostPaths: [/run/flannel]}, networks: {namespaceIsolation: true}, pools: [{resourceName: r, selectors: {drivers: [iavf]}}]}",
		"{namespace: {create: true}, platform: microk8s, image: {digest: 'sha256:" + strings.Repeat("a", 64) + "'}, imagePullSecrets: [{name: s}], apiServer: {host: 10.0.0.1, port: 6443}, controller: {affinity: {nodeAffinity: {}}, tolerations: [{operator: Exists}], podAnnotations: {a: b}}, metrics: {expose: true}}",
		"{namespace: {create: true}, platform: openshift, webhook: {certificate: {mode: secret, caBundle: ''}, failurePolicy: Ignore, excludeNamespaces: []}, node: {uninstall: true, force: true, maxUnavailable: 3, podAnnotations: {a: b}}}",
	} {
		var documents strings.Builder
		for _, o := range render(t, text) {
			data, err := o.MarshalJSON()
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&documents, "%s\n", data)
		}
		file := filepath.Join(t.TempDir(), fmt.Sprintf("%d.json", i))
		if err := os.WriteFile(file, []byte(documents.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := api.Kubectl(t.Context(), "apply", "--validate=strict", "-f", file); err != nil {
			t.Errorf("%s: %v\n%s", text, err, out)
		}
	}
}
