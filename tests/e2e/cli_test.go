//go:build cluster

package e2e

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/tendril-cni/tendril/tests/stage"
)

// says waits until the program says all of want with an exit code.
func (p *play) says(t *testing.T, code int, args []string, want ...string) string {
	t.Helper()
	var last string
	p.Wait(t, "kubectl tendril "+strings.Join(args, " "), func(ctx context.Context) (string, bool, error) {
		out, got, err := p.Tendril(ctx, args...)
		last = out
		for _, w := range want {
			if !strings.Contains(out, w) {
				return fmt.Sprintf("exit code %d, without %q:\n%s", got, w, out), false, err
			}
		}
		return fmt.Sprintf("exit code %d:\n%s", got, out), got == code, err
	})
	t.Logf("$ kubectl tendril %s\n%s", strings.Join(args, " "), last)
	return last
}

// commandLine asks the real daemons by the real exec: of pods that are well, of
// one whose network does not exist, of one for which no VF is left.
func (p *play) commandLine(t *testing.T) {
	p.examples(t)
	p.says(t, 0, []string{"explain", "red"}, "all its 3 networks are attached", "net1: 0000:01:1", "net1: sriov attached to default/fast", "store0: macvlan attached to default/storage", "10.56.3.11/24")

	unknown := stage.Pod{Name: "nowhere", Node: 1, Networks: "nowhere"}
	greedy := stage.Pod{Name: "greedy", Networks: "fast", Containers: []stage.Limits{stage.VF("8")}}
	p.Create(t, unknown, greedy)
	p.says(t, 1, []string{"explain", "nowhere"}, "stuck at definitions", "default/nowhere", "a NetworkAttachmentDefinition that exists", "What to do:", "FailedCreatePodSandBox")
	p.says(t, 1, []string{"explain", "greedy"}, "stuck at scheduling", "Insufficient "+stage.Resource, "node1: "+stage.Resource+" 6 of 7 free", "default/red")

	vfs := p.says(t, 0, []string{"vfs"}, "default/red", "default/green")
	if !regexp.MustCompile(`(?m)^node1 +sriov0 +\d +0000:01:1\S+ +\S+ +igbvf +[0-9a-f:]{17} +42 +used +default/red$`).MatchString(vfs) {
		t.Errorf("no line of red's VF with its VLAN:\n%s", vfs)
	}
	p.says(t, 0, []string{"ips", "--holders"}, "10.56.1.11/24", "default/red", "node1")
	p.says(t, 0, []string{"status"}, "node1", "node2", "free 13, used 1")
	p.says(t, 0, []string{"doctor", "--all"}, "00-tendril.conflist comes first", "the kubelet tells which pod has which device", "7 of 7 devices offered", " 0 fail, 0 unknown")
	p.bundled(t)
	p.Gone(t, "red", "green", "nowhere", "greedy")
}

// bundled wants a support archive with the real daemons' answers and logs, and no
// token in it.
func (p *play) bundled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bundle.tar.gz")
	out, code, err := p.Tendril(p.ctx, "bundle", "-f", path)
	if p.must(t, err); code != 0 {
		t.Fatalf("bundle ended with %d: %s", code, out)
	}
	packed, err := exec.CommandContext(p.ctx, "tar", "-xzOf", path).Output()
	p.must(t, err)
	names, err := exec.CommandContext(p.ctx, "tar", "-tzf", path).Output()
	p.must(t, err)
	for _, want := range []string{"/nodes/node1/attachments.json", "/nodes/node2/observed.json", "/tendrild.log", "/explain/default/nowhere.txt", "/doctor.txt"} {
		if !strings.Contains(string(names), want) {
			t.Errorf("no %s in the archive:\n%s%s", want, names, out)
		}
	}
	if !strings.Contains(string(packed), `"msg":"serving"`) {
		t.Error("no line of a daemon's log in the archive")
	}
	if strings.Contains(string(packed), "eyJ") || strings.Contains(string(packed), "BEGIN") {
		t.Error("a token or a key in the archive")
	}
}
