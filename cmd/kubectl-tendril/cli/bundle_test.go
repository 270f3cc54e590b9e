package cli_test

import (
	"archive/tar"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/tendril-cni/tendril/cmd/kubectl-tendril/cli"
)

// planted are secrets that lie everywhere in the cluster of the bundle's test.
var planted = []string{"hunter2-XYZZY", "eyJhbGciOiJSUzI1NiIsImtpZCI6Ik", "MIIEvgIBADANBgkqhkiG9w0BAQEFAASC"}

const leaky = `apiVersion: v1
kind: Secret
metadata: {name: webhook-cert, namespace: tendril-system}
stringData: {tls.key: hunter2-XYZZY}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: tendril-pools, namespace: tendril-system, annotations: {note: hunter2-XYZZY}}
data:
  config.json: '{"resourceList":[],"password":"hunter2-XYZZY"}'
  kubeconfig: "users:\n- name: u\n  user:\n    token: hunter2-XYZZY\n"
  key.pem: "-----BEGIN PRIVATE KEY-----\nMIIEvgIBADANBgkqhkiG9w0BAQEFAASC\n-----END PRIVATE KEY-----\n"
---
apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata:
  name: leaky
  annotations: {kubectl.kubernetes.io/last-applied-configuration: "hunter2-XYZZY", k8s.v1.cni.cncf.io/resourceName: tendril.dev/sriov0}
spec: {config: '{"cniVersion":"1.0.0","type":"calico","etcd_password":"hunter2-XYZZY","policy":{"k8s_auth_token":"eyJhbGciOiJSUzI1NiIsImtpZCI6Ik.a.b"}}'}
---
apiVersion: v1
kind: Pod
metadata:
  name: leaky
  annotations: {k8s.v1.cni.cncf.io/networks: '[{"name":"leaky","cni-args":{"password":"hunter2-XYZZY"}}]', other: hunter2-XYZZY}
spec:
  nodeName: node1
  containers:
    - {name: c, image: i, command: [run, hunter2-XYZZY], args: ["--token", hunter2-XYZZY], env: [{name: DB, value: hunter2-XYZZY}]}
status: {phase: Pending}
---
apiVersion: v1
kind: Pod
metadata: {name: tendril-controller-x, namespace: tendril-system, labels: {app.kubernetes.io/name: tendril-controller}}
spec:
  nodeName: node1
  containers: [{name: controller, image: i, args: [--keep, --client-secret, hunter2-XYZZY, "--password=hunter2-XYZZY"], env: [{name: ANY, value: hunter2-XYZZY}]}]
---
apiVersion: v1
kind: Event
metadata: {name: leaky.1}
involvedObject: {kind: Pod, name: tendril-leaky, namespace: default}
type: Warning
reason: FailedAddingInterface
message: 'GET https://admin:hunter2-XYZZY@10.0.0.1/ with Authorization: Bearer hunter2-XYZZY failed'
lastTimestamp: 2026-11-20T11:50:00Z
`

// TestBundleHasNoSecrets plants secrets wherever Tendril looks, and wants none of
// them in the archive, and yet what the archive is for.
func TestBundleHasNoSecrets(t *testing.T) {
	w := newWorld(t)
	base, err := txtar.ParseFile("testdata/_two-nodes.txtar")
	if err != nil {
		t.Fatal(err)
	}
	w.prepare(base)
	w.apply([]byte(leaky))
	w.answers["node1/networks"] = json.RawMessage(`{"default":{"name":"lab","types":["bridge"]},"kinds":[],"token":"hunter2-XYZZY"}`)
	path := filepath.Join(t.TempDir(), "b.tar.gz")
	out, complaints, code := w.run("bundle", "-f", path)
	if code != 0 {
		t.Fatalf("exit code %d: %s%s", code, out, complaints)
	}
	files := unpack(t, path)
	for name, text := range files {
		for _, secret := range planted {
			if strings.Contains(text, secret) || strings.Contains(text, base64.StdEncoding.EncodeToString([]byte(secret))) {
				t.Errorf("%s has a secret:\n%s", name, text)
			}
		}
	}
	for name, want := range map[string]string{
		"README.txt":                "logs/tendrild-node1/tendrild.log",
		"status.txt":                "node2",
		"doctor.txt":                "00-tendril.conflist comes first",
		"events.txt":                "FailedAddingInterface",
		"explain/default/leaky.txt": "stuck at",
		"nodes/node1/vfs.json":      "0000:01:10.2",
		"nodes/node1/networks.json": `"lab"`,
		"objects/network-attachment-definitions.yaml":     `"type":"calico"`,
		"objects/pods.yaml":                               "nodeName: node1",
		"objects/tendril-pods.yaml":                       "--keep",
		"objects/nodes.yaml":                              "kubeletVersion",
		"config/tendril-system/tendril-pools/config.json": "resourceList",
	} {
		if !strings.Contains(files[name], want) {
			t.Errorf("%s does not have %q:\n%s", name, want, files[name])
		}
	}
	for name := range files {
		if strings.Contains(strings.ToLower(name), "secret") {
			t.Errorf("there is a file %s", name)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the archive: %v, %v", info, err)
	}
}

// unpack returns the files of an archive, by their names below its one directory.
func unpack(t *testing.T, path string) map[string]string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	var roots []string
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		root, name, _ := strings.Cut(h.Name, "/")
		if !slices.Contains(roots, root) {
			roots = append(roots, root)
		}
		files[name] = string(text)
	}
	if len(roots) != 1 || roots[0] != "tendril-20261120T120000" {
		t.Errorf("directories %v", roots)
	}
	return files
}

// TestBundleLeavesAnArchiveAlone: where the cluster cannot be asked there is nothing
// to put in the place of what was collected before.
func TestBundleLeavesAnArchiveAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "before.tar.gz")
	if err := os.WriteFile(path, []byte("before"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, complaints strings.Builder
	code := cli.Run(t.Context(), []string{"bundle", "-f", path, "--server=https://127.0.0.1:1"}, cli.Program{
		Streams: genericiooptions.IOStreams{In: strings.NewReader(""), Out: &out, ErrOut: &complaints}})
	if text, err := os.ReadFile(path); code != cli.Unseen || err != nil || string(text) != "before" {
		t.Errorf("exit code %d, %q in the file, %v\n%s", code, text, err, complaints.String())
	}
}
