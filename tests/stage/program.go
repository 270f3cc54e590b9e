package stage

import (
	"context"
	"errors"
	"os/exec"
	"path/filepath"
)

// Tendril runs kubectl-tendril, which `make image` built, as the administrator, and
// returns what it printed, on either stream, and its exit code.
func (s *Stage) Tendril(ctx context.Context, args ...string) (string, int, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(s.root, "bin", "kubectl-tendril"), args...)
	cmd.Env = s.Environ()
	out, err := cmd.CombinedOutput()
	var code *exec.ExitError
	if errors.As(err, &code) {
		return string(out), code.ExitCode(), nil
	}
	return string(out), 0, err
}
