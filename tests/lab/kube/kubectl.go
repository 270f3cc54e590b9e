package kube

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// linkKubectl gives the program the name under which it is kubectl.
func (a *API) linkKubectl() error {
	if err := os.MkdirAll(a.binDir(), 0o755); err != nil {
		return err
	}
	link := filepath.Join(a.binDir(), "kubectl")
	if err := os.Remove(link); err != nil && !os.IsNotExist(err) {
		return err
	}
	return os.Symlink(a.kubelab, link)
}

func (a *API) binDir() string { return filepath.Join(a.dir, "bin") }

// Environ is this process's environment with kubectl in PATH, set up as the administrator's, and
// without proxies, none of which is on the way to the API server.
func (a *API) Environ() []string {
	env := slices.DeleteFunc(os.Environ(), func(s string) bool {
		name, _, _ := strings.Cut(s, "=")
		return strings.HasSuffix(strings.ToLower(name), "_proxy")
	})
	return append(env,
		"PATH="+a.binDir()+string(os.PathListSeparator)+os.Getenv("PATH"),
		"KUBECONFIG="+a.Kubeconfig(Admin),
		"KUBECACHEDIR="+filepath.Join(a.dir, "kubectl"),
	)
}

// Kubectl runs kubectl as the administrator and returns what it printed. What it complained of is in
// the error.
func (a *API) Kubectl(ctx context.Context, args ...string) (string, error) {
	return a.kubectl(ctx, nil, args...)
}

// Apply applies the objects of a YAML text.
func (a *API) Apply(ctx context.Context, yaml string) error {
	_, err := a.kubectl(ctx, strings.NewReader(yaml), "apply", "--server-side", "--force-conflicts", "--filename=-")
	return err
}

func (a *API) kubectl(ctx context.Context, stdin io.Reader, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(a.binDir(), "kubectl"), args...)
	cmd.Env = a.Environ()
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &stdout, &stderr
	if err := cmd.Run(); err != nil {
		complaint := bytes.TrimSpace(stderr.Bytes())
		return stdout.String(), fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, complaint)
	}
	return stdout.String(), nil
}
