package oci_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	spdx "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx/v2/v2_3"

	"github.com/tendril-cni/tendril/tests/lab/oci"
)

// built builds the shim, which is the standard library alone, for both architectures, in the way of the
// Makefile, and returns the image's archive and bill.
func built(t *testing.T) (archive, bill []byte) {
	t.Helper()
	dir := t.TempDir()
	b := oci.Build{Version: "v1", Bin: map[string]string{}, Kinds: []string{"macvlan"}, Programs: []string{"tendril"}}
	for _, arch := range []string{"amd64", "arm64"} {
		b.Bin[arch] = filepath.Join(dir, arch)
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w -X main.version=v1", "-o", b.Bin[arch]+"/", "../../../cmd/tendril")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	images, bill, err := oci.Tendril(b)
	if err != nil {
		t.Fatal(err)
	}
	var w bytes.Buffer
	if err := oci.Write(&w, images...); err != nil {
		t.Fatal(err)
	}
	return w.Bytes(), bill
}

// TestTendrilImage: built twice, in different directories, it is the same image; a registry's tools find
// an index of two valid images in it.
func TestTendrilImage(t *testing.T) {
	archive, bill := built(t)
	again, _ := built(t)
	if !bytes.Equal(archive, again) {
		t.Error("the same sources made two images")
	}
	top := unpacked(t, archive)
	inner, err := top.ImageIndex(only(t, top).Digest)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(inner, validate.Fast); err != nil {
		t.Error(err)
	}
	list, err := inner.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	var platforms []string
	for _, d := range list.Manifests {
		platforms = append(platforms, d.Platform.String())
		img, err := inner.Image(d.Digest)
		if err != nil {
			t.Fatal(err)
		}
		wantImage(t, img, d.Platform.Architecture, bill)
	}
	if !slices.Equal(platforms, []string{"linux/amd64", "linux/arm64"}) {
		t.Errorf("platforms %v", platforms)
	}
}

// unpacked reads the archive as other tools do: from a directory.
func unpacked(t *testing.T, archive []byte) v1.ImageIndex {
	t.Helper()
	dir := t.TempDir()
	_, files := entries(t, bytes.NewReader(archive))
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	top, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	return top
}

func only(t *testing.T, top v1.ImageIndex) v1.Descriptor {
	t.Helper()
	list, err := top.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(list.Manifests) != 1 || list.Manifests[0].Annotations["io.containerd.image.name"] != oci.TendrilImage {
		t.Fatalf("index %+v, want one entry of the image's name", list.Manifests)
	}
	return list.Manifests[0]
}

func wantImage(t *testing.T, img v1.Image, arch string, bill []byte) {
	t.Helper()
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.Architecture != arch || config.OS != "linux" || config.Config.Labels["org.opencontainers.image.version"] != "v1" {
		t.Errorf("configuration %+v, want one of %s", config, arch)
	}
	layers, err := img.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("%d layers (%v)", len(layers), err)
	}
	content, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	names, files := entries(t, content)
	if !bytes.Equal(files["usr/share/sbom/tendril.spdx.json"], bill) {
		t.Error("the bill of materials is not in the image")
	}
	machine := map[string]byte{"amd64": 62, "arm64": 183}[arch] // e_machine of ELF
	if program := files["usr/local/bin/tendril"]; len(program) < 20 || program[18] != machine {
		t.Errorf("no program for %s in %v", arch, names)
	}
	if !slices.Contains(names, "Lrwxrwxrwx usr/local/bin/cni/macvlan ../tendril-cni") {
		t.Errorf("no name of tendril-cni in %v", names)
	}
}

// TestBillOfMaterials reads it with the reader of SPDX, for a program with modules: the builder itself.
func TestBillOfMaterials(t *testing.T) {
	dir := t.TempDir()
	if out, err := exec.Command("go", "build", "-o", dir+"/", "../cmd/image").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	_, bill, err := oci.Tendril(oci.Build{Version: "v1", Bin: map[string]string{"amd64": dir}, Programs: []string{"image"}})
	if err != nil {
		t.Fatal(err)
	}
	d, err := spdx.Read(bytes.NewReader(bill))
	if err != nil {
		t.Fatal(err)
	}
	doc, ok := any(d).(*v2_3.Document)
	if !ok || doc.SPDXVersion != "SPDX-2.3" || !strings.HasPrefix(doc.DocumentNamespace, "https://") {
		t.Fatalf("document %T %+v", d, doc)
	}
	known := map[string]bool{}
	urls := map[string]bool{}
	for _, p := range doc.Packages {
		known[string(p.PackageSPDXIdentifier)] = true
		for _, r := range p.PackageExternalReferences {
			urls[r.Locator] = true
		}
	}
	if url := "pkg:golang/github.com/google/go-containerregistry@v0.20.7"; !urls[url] {
		t.Errorf("%s is missing of %v", url, urls)
	}
	for _, r := range doc.Relationships {
		if !known[string(r.RefB.ElementRefID)] {
			t.Errorf("%v names nothing", r.RefB)
		}
	}
}

// TestDockerfileMakesTheSameImage: for those with a container engine.
func TestDockerfileMakesTheSameImage(t *testing.T) {
	text, err := os.ReadFile("../../../deployment/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	mod, err := os.ReadFile("../../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	_, version, _ := strings.Cut(string(mod), "\ngo ")
	version, _, _ = strings.Cut(version, "\n")
	makefile, err := os.ReadFile("../../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(makefile), "\n") {
		if kinds, ok := strings.CutPrefix(line, "KINDS   := "); ok && !strings.Contains(string(text), kinds) {
			t.Errorf("the Dockerfile has not the names %s", kinds)
		}
		if programs, ok := strings.CutPrefix(line, "INIMAGE := "); ok && !strings.Contains(string(text), programs) {
			t.Errorf("the Dockerfile does not build %s", programs)
		}
	}
	for _, want := range []string{
		"FROM --platform=$BUILDPLATFORM golang:" + strings.TrimSuffix(version, ".0"), "FROM scratch", "-trimpath", "CGO_ENABLED=0", "GOARCH=$TARGETARCH",
		`ENTRYPOINT ["/usr/local/bin/tendrild"]`, "/usr/local/bin/",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the Dockerfile has no %s", want)
		}
	}
}
