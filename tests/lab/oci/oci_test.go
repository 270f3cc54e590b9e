package oci_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tendril-cni/tendril/tests/lab/oci"
)

func example(t *testing.T) oci.Image {
	t.Helper()
	program := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(program, []byte("program"), 0o600); err != nil {
		t.Fatal(err)
	}
	return oci.Image{
		Name:       "example.dev:5000/tools/box:1",
		Entrypoint: []string{"/bin/box", "serve"},
		Files: []oci.File{
			oci.Link("/usr/bin/sh", "/bin/box"),
			oci.Program("/bin/box", program),
			{Path: "/etc/box.conf", Data: []byte("x = 1\n"), Mode: 0o640},
		},
	}
}

// entries reads a tar into its names, in order, and its regular files' contents.
func entries(t *testing.T, r io.Reader) (names []string, content map[string][]byte) {
	t.Helper()
	content = map[string][]byte{}
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return names, content
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.FileInfo().Mode().String()+" "+h.Name+" "+h.Linkname)
		if content[h.Name], err = io.ReadAll(tr); err != nil {
			t.Fatal(err)
		}
	}
}

func TestArchive(t *testing.T) {
	var archive bytes.Buffer
	if err := oci.Write(&archive, example(t)); err != nil {
		t.Fatal(err)
	}
	_, blobs := entries(t, &archive)

	for name, blob := range blobs {
		sum := sha256.Sum256(blob)
		if want, ok := strings.CutPrefix(name, "blobs/sha256/"); ok && want != hex.EncodeToString(sum[:]) {
			t.Errorf("blob %s has another digest", name)
		}
	}

	type descriptor struct {
		Digest      string
		Annotations map[string]string
	}
	var index struct{ Manifests []descriptor }
	var manifest struct {
		Config descriptor
		Layers []descriptor
	}
	var config struct {
		Config struct{ Entrypoint []string }
		RootFS struct {
			DiffIDs []string `json:"diff_ids"`
		}
	}
	decode := func(blob []byte, v any) {
		if err := json.Unmarshal(blob, v); err != nil {
			t.Fatal(err)
		}
	}
	blob := func(d descriptor) []byte { return blobs["blobs/"+strings.Replace(d.Digest, ":", "/", 1)] }
	decode(blobs["index.json"], &index)
	decode(blob(index.Manifests[0]), &manifest)
	decode(blob(manifest.Config), &config)

	wantNames := map[string]string{
		"io.containerd.image.name":          "example.dev:5000/tools/box:1",
		"org.opencontainers.image.ref.name": "1",
	}
	if diff := cmp.Diff(wantNames, index.Manifests[0].Annotations); diff != "" {
		t.Error("annotations (-want +got):\n" + diff)
	}
	if diff := cmp.Diff([]string{"/bin/box", "serve"}, config.Config.Entrypoint); diff != "" {
		t.Error("entrypoint (-want +got):\n" + diff)
	}
	if config.RootFS.DiffIDs[0] != manifest.Layers[0].Digest {
		t.Error("the uncompressed layer is not named by its own digest")
	}

	names, files := entries(t, bytes.NewReader(blob(manifest.Layers[0])))
	wantEntries := []string{
		"drwxr-xr-x bin/ ",
		"-rwxr-xr-x bin/box ",
		"drwxr-xr-x etc/ ",
		"-rw-r----- etc/box.conf ",
		"drwxr-xr-x usr/ ",
		"drwxr-xr-x usr/bin/ ",
		"Lrwxrwxrwx usr/bin/sh /bin/box",
	}
	if diff := cmp.Diff(wantEntries, names); diff != "" {
		t.Error("layer (-want +got):\n" + diff)
	}
	if got := string(files["bin/box"]); got != "program" {
		t.Errorf("bin/box holds %q", got)
	}
}

func TestArchiveIsReproducible(t *testing.T) {
	img := example(t)
	var first, second bytes.Buffer
	if err := oci.Write(&first, img); err != nil {
		t.Fatal(err)
	}
	img.Files[0], img.Files[2] = img.Files[2], img.Files[0]
	if err := oci.Write(&second, img); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("the order in which files are listed changed the archive")
	}
}

func TestBadImage(t *testing.T) {
	for name, files := range map[string][]oci.File{
		"file 0 has no path":                {{Path: "/"}},
		"two files at /a":                   {{Path: "a"}, {Path: "/a/../a"}},
		"file /a has more than one content": {{Path: "/a", Link: "b", Data: []byte("c")}},
		"no such file or directory":         {oci.Program("/a", "does/not/exist")},
		"/proc/self is not a regular file":  {oci.Program("/a", "/proc/self")},
	} {
		t.Run(name, func(t *testing.T) {
			target := filepath.Join(t.TempDir(), "image.tar")
			err := oci.WriteFile(target, oci.Image{Name: "x:1", Files: files})
			if err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("got %v", err)
			}
			left, _ := os.ReadDir(filepath.Dir(target))
			if len(left) != 0 {
				t.Errorf("%v left behind", left)
			}
		})
	}
}
