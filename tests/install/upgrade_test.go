//go:build cluster

package install

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/tendril-cni/tendril/tests/lab/oci"
	"github.com/tendril-cni/tendril/tests/stage"
)

// previousImage is the image of the commit before this one.
const previousImage = "tendril.dev/tendril:previous"

// upgrade has the previous commit on the node, and applies the manifest of this one
// while pods with networks are made and deleted: none of them may be refused or be
// left with fewer networks, the pod that has a VF keeps it, and no VF, link or
// address is left over.
func (p *play) upgrade(t *testing.T) {
	p.ForgetRequests(t)
	p.Must(t, p.Prepare(p.Ctx))
	p.Ask(t, "apply", "-f", p.previousManifest(t))
	p.rolledOut(t)
	p.Ask(t, "apply", "-f", filepath.Join(p.source, "deployment", "examples", "quickstart-networks.yaml"))
	p.Ask(t, "apply", "-f", filepath.Join(p.source, "deployment", "examples", "quickstart-pod.yaml"))
	p.Create(t, stage.Network{Name: "storm", Config: `{"cniVersion":"1.0.0","type":"macvlan","master":"sriov1","ipam":{"type":"host-local","subnet":"10.57.0.0/24"}}`})
	p.Must(t, p.PodReady(p.Ctx, "quickstart"))
	p.hasVF(t)
	before := p.held(t)

	ctx, stop := context.WithCancel(p.Ctx)
	defer stop()
	streams := []*stream{{play: p, network: "storm"}, {play: p, network: "quickstart"}}
	ended := make(chan error, len(streams))
	for _, s := range streams {
		go func() { ended <- s.run(ctx) }() // ends with ctx, after its last pod
	}
	p.Ask(t, "apply", "-f", p.manifest("tendril.yaml"))
	p.rolledOut(t)
	p.Wait(t, "the new shim on the node", func(ctx context.Context) (string, bool, error) {
		out, err := p.Script(ctx, 1, "/opt/cni/bin/tendril 2>&1; true")
		return out, strings.Contains(out, "tendril ") && !strings.Contains(out, "previous"), err
	})
	stop()
	for range streams {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	for _, s := range streams {
		t.Logf("%d pods with network %s during the upgrade, %d of them refused by the kubelet for want of its device plugin", s.made, s.network, s.unadmitted)
		if s.made == 0 {
			t.Errorf("no pod with network %s was made during the upgrade", s.network)
		}
	}
	// A call that waited longer than the runtime's patience was made again by it.
	again := p.Ask(t, "get", "events", "--field-selector", "reason=FailedCreatePodSandBox", "-o", `jsonpath={range .items[*]}{.involvedObject.name}: {.message}{"\n"}{end}`)
	t.Logf("sandboxes that were made a second time: %q", again)
	p.hasVF(t)
	p.Wait(t, "nothing to be left of the storm", func(context.Context) (string, bool, error) {
		after := p.held(t)
		return "after:\n" + after + "\nbefore:\n" + before, after == before, nil
	})
	p.Invariant10NothingDenied(t)
}

// held is the node's world without the daemon's own numbers, which another release
// may have others of, and without the names of the default network's links: the
// replicas of the controller are other pods after the upgrade. How many namespaces
// and addresses there are is in it.
func (p *play) held(t *testing.T) string {
	t.Helper()
	world, err := p.World(p.Ctx, 1)
	p.Must(t, err)
	return regexp.MustCompile(`(?m)^tendril_held.*\n| t[0-9a-f]{14}\b`).ReplaceAllString(world, "")
}

// stream makes one pod after the other.
type stream struct {
	*play
	network string
	// made counts pods; unadmitted are those of them that the kubelet ended because
	// the device plugin of their VF was away between scheduling and admission, which
	// no device plugin can keep it from. A workload's controller makes them again.
	made, unadmitted int
}

// run makes a pod, waits until it has its second interface, and deletes it, until
// ctx ends; the last one it still waits for.
func (s *stream) run(ctx context.Context) error {
	for ; ctx.Err() == nil; s.made++ {
		name := fmt.Sprintf("%s-%d", s.network, s.made)
		if err := s.Apply(s.Ctx, stage.Pod{Name: name, Networks: s.network}.String()); err != nil {
			return fmt.Errorf("pod %s is refused: %w", name, err)
		}
		if err := s.started(name); err != nil {
			return err
		}
		if err := s.PodGone(s.Ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// started waits until a pod runs with eth0 and net1. One that runs with less will
// not get the rest.
func (s *stream) started(name string) error {
	return s.Await(s.Ctx, "pod "+name+" to run with eth0 and net1", func(ctx context.Context) (string, bool, error) {
		out, err := s.Kubectl(ctx, "get", "pod", name, "-o", `jsonpath={.status.phase} {.status.reason} {.status.conditions[?(@.type=="Ready")].status}`)
		if strings.HasPrefix(out, "Failed UnexpectedAdmissionError") {
			s.unadmitted++
			return out, true, nil
		}
		if err != nil || out != "Running  True" {
			return out, false, err
		}
		links, err := s.Exec(ctx, name, "ls", "/sys/class/net")
		return links, strings.Contains(links, "eth0") && strings.Contains(links, "net1"), err
	})
}

// previous is the source of the commit before this one, as the repository has it.
// Where there is no history (an archive, a shallow clone), this commit stands for
// it: an upgrade to itself is one still.
func (p *play) previous(t *testing.T) string {
	t.Helper()
	var source bytes.Buffer
	git := exec.CommandContext(p.Ctx, "git", "archive", "HEAD~1")
	git.Dir, git.Stdout = p.root, &source
	if err := git.Run(); err != nil {
		t.Logf("no previous commit, this one stands for it: %v", err)
		return p.root
	}
	dir := t.TempDir()
	tar := exec.CommandContext(p.Ctx, "tar", "x", "-C", dir)
	tar.Stdin = &source
	if out, err := tar.CombinedOutput(); err != nil {
		t.Fatalf("unpack the previous commit: %v: %s", err, out)
	}
	return dir
}

// imageOf builds the programs of the previous commit and packs them as a release
// is packed: an index of two architectures, of which the node takes its own. A
// commit that does not build is no release that anybody upgrades from; this one
// stands for it.
func (p *play) imageOf(t *testing.T) string {
	t.Helper()
	bin := t.TempDir() + "/"
	out, err := p.build(bin)
	if err != nil && p.source != p.root {
		t.Logf("the previous commit does not build, this one stands for it: %v: %s", err, out)
		p.source = p.root
		out, err = p.build(bin)
	}
	if err != nil {
		t.Fatalf("build the previous commit: %v: %s", err, out)
	}
	images, _, err := oci.Tendril(oci.Build{Name: previousImage, Version: "previous", Bin: map[string]string{"amd64": bin, "arm64": bin}})
	p.Must(t, err)
	archive := filepath.Join(t.TempDir(), "previous.tar")
	p.Must(t, oci.WriteFile(archive, images...))
	return archive
}

func (p *play) build(bin string) ([]byte, error) {
	cmd := exec.CommandContext(p.Ctx, "go", "build", "-trimpath", "-ldflags", "-s -w -X main.version=previous", "-o", bin,
		"./cmd/tendril", "./cmd/tendrild", "./cmd/tendril-controller", "./cmd/tendril-cni", "./cmd/tendril-dhcp")
	cmd.Dir, cmd.Env = p.source, append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
	return cmd.CombinedOutput()
}

// previousManifest is that of the previous commit, with the image that was made of it.
func (p *play) previousManifest(t *testing.T) string {
	t.Helper()
	manifest, err := os.ReadFile(filepath.Join(p.source, "deployment", "manifests", "tendril.yaml"))
	p.Must(t, err)
	out := filepath.Join(t.TempDir(), "tendril.yaml")
	p.Must(t, os.WriteFile(out, bytes.ReplaceAll(manifest, []byte(oci.TendrilImage), []byte(previousImage)), 0o600))
	return out
}
