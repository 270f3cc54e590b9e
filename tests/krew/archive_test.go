package krew_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/tendril-cni/tendril/tests/krew"
)

// TestManifestByKrewsRules: name, version, description, and for each platform an
// archive that is as the manifest says, with the licence inside.
func TestManifestByKrewsRules(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "kubectl-tendril")
	if err := os.WriteFile(program, []byte("program"), 0o755); err != nil {
		t.Fatal(err)
	}
	a, err := krew.Pack(dir, "linux", "amd64", program, "../../LICENSE")
	if err != nil {
		t.Fatal(err)
	}
	again, err := krew.Pack(dir, "linux", "amd64", program, "../../LICENSE")
	if err != nil || again.SHA256 != a.SHA256 {
		t.Errorf("packed again: %v, %v; first %v", again, err, a)
	}
	text, err := os.ReadFile("../../deployment/krew/tendril.yaml")
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := krew.Manifest(string(text), "v1.2.3", []krew.Archive{a})
	if err != nil {
		t.Fatal(err)
	}
	var m struct {
		Kind     string
		Metadata struct{ Name string }
		Spec     struct {
			Version, ShortDescription, Homepage string
			Platforms                           []struct {
				URI, SHA256, Bin string
				Selector         struct{ MatchLabels map[string]string }
			}
		}
	}
	if err := yaml.Unmarshal(manifest, &m); err != nil {
		t.Fatalf("%v:\n%s", err, manifest)
	}
	if m.Kind != "Plugin" || m.Metadata.Name != "tendril" || m.Spec.Version != "v1.2.3" || len(m.Spec.ShortDescription) > 50 || m.Spec.Homepage == "" {
		t.Errorf("%+v", m)
	}
	if len(m.Spec.Platforms) != 1 {
		t.Fatalf("%+v", m.Spec.Platforms)
	}
	p := m.Spec.Platforms[0]
	if !regexp.MustCompile(`^https://.*/v1\.2\.3/kubectl-tendril_linux_amd64\.tar\.gz$`).MatchString(p.URI) || p.Bin != "kubectl-tendril" || p.Selector.MatchLabels["os"] != "linux" {
		t.Errorf("%+v", p)
	}
	packed, err := os.ReadFile(filepath.Join(dir, a.Name))
	if err != nil {
		t.Fatal(err)
	}
	if sum := sha256.Sum256(packed); hex.EncodeToString(sum[:]) != p.SHA256 {
		t.Errorf("checksum %s", p.SHA256)
	}
	if names := namesIn(t, packed); !slices.Contains(names, "LICENSE") || !slices.Contains(names, p.Bin) {
		t.Errorf("archive has %v", names)
	}
	if _, err := krew.Manifest(string(text), "1.2.3", nil); err == nil {
		t.Error("a version without v was taken")
	}
}

func namesIn(t *testing.T, packed []byte) (names []string) {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
}
