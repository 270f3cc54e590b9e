//go:build cluster

package install

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tendril-cni/tendril/tests/lab/oci"
	"github.com/tendril-cni/tendril/tests/stage"
)

const nextImage = "tendril.dev/tendril:next"

// upgrade applies the manifest of another image while pods with networks are made
// and deleted: none of them may be refused or left without, and the pod with the
// VF keeps it.
func (p *play) upgrade(t *testing.T) {
	p.Must(t, p.ImportImage(p.Ctx, p.next(t)))
	p.Must(t, p.Apply(p.Ctx, `{"apiVersion":"k8s.cni.cncf.io/v1","kind":"NetworkAttachmentDefinition","metadata":{"name":"storm","namespace":"default"},
		"spec":{"config":"{\"cniVersion\":\"1.0.0\",\"type\":\"macvlan\",\"master\":\"sriov1\",\"ipam\":{\"type\":\"host-local\",\"subnet\":\"10.57.0.0/24\"}}"}}`))
	manifest, err := os.ReadFile(p.manifest("tendril.yaml"))
	p.Must(t, err)
	upgraded := filepath.Join(t.TempDir(), "tendril.yaml")
	p.Must(t, os.WriteFile(upgraded, []byte(strings.ReplaceAll(string(manifest), oci.TendrilImage, nextImage)), 0o600))

	ctx, stop := context.WithCancel(p.Ctx)
	defer stop()
	storm := make(chan error, 1)
	made := 0
	go func() { storm <- p.storm(ctx, &made) }() // ends with ctx
	p.Ask(t, "apply", "-f", upgraded)
	p.rolledOut(t)
	p.Wait(t, "the new shim on the node", func(ctx context.Context) (string, bool, error) {
		out, err := p.Script(ctx, 1, "/opt/cni/bin/tendril 2>&1")
		return out, strings.Contains(out, "tendril next"), err
	})
	stop()
	p.Must(t, <-storm)
	if made == 0 {
		t.Error("no pod was made during the upgrade")
	}
	// A call that waited longer than the runtime's patience was made again by it.
	again := p.Ask(t, "get", "events", "--field-selector", "reason=FailedCreatePodSandBox", "-o", `jsonpath={range .items[*]}{.involvedObject.name}: {.message}{"\n"}{end}`)
	t.Logf("sandboxes that were made a second time: %q", again)
	t.Logf("%d pods during the upgrade", made)
	p.hasVF(t)
}

// storm makes a pod with a second interface, waits until it is Ready, and deletes
// it, until ctx ends; the last one it still waits for.
func (p *play) storm(ctx context.Context, made *int) error {
	for ; ctx.Err() == nil; *made++ {
		name := fmt.Sprintf("storm-%d", *made)
		if err := p.Apply(p.Ctx, stage.Pod{Name: name, Networks: "storm"}.String()); err != nil {
			return fmt.Errorf("pod %s is refused: %w", name, err)
		}
		if err := p.PodReady(p.Ctx, name); err != nil {
			return err
		}
		if err := p.Await(p.Ctx, "pod "+name+" to have eth0 and net1", func(ctx context.Context) (string, bool, error) {
			got, err := p.Interfaces(ctx, name)
			return fmt.Sprintf("%+v", got), len(got) == 2, err
		}); err != nil {
			return err
		}
		if err := p.PodGone(p.Ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// next is the image with another shim, so that an upgrade has a file to replace, and
// as a release is: an index of two architectures, of which the node takes its own.
func (p *play) next(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(p.root, "bin")
	shim := filepath.Join(t.TempDir(), "tendril")
	cmd := exec.CommandContext(p.Ctx, "go", "build", "-trimpath", "-ldflags", "-s -w -X main.version=next", "-o", shim, "./cmd/tendril")
	cmd.Dir, cmd.Env = p.root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	images, _, err := oci.Tendril(oci.Build{Name: nextImage, Version: "next", Bin: map[string]string{"amd64": bin, "arm64": bin}})
	p.Must(t, err)
	for _, img := range images {
		for i, f := range img.Files {
			if f.Path == "/usr/local/bin/tendril" {
				img.Files[i].Source = shim
			}
		}
	}
	archive := filepath.Join(t.TempDir(), "next.tar")
	p.Must(t, oci.WriteFile(archive, images...))
	return archive
}
