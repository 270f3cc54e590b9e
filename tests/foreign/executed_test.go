package foreign

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/tendril-cni/tendril/tests/crash/sweep"
)

// executed is a CNI executable, run as a container runtime does.
type executed struct {
	t *testing.T
	// program is its path, path CNI_PATH, config its standard input.
	program, path, config string
}

func buildShim(t *testing.T) string {
	t.Helper()
	shim := filepath.Join(t.TempDir(), "tendril")
	if out, err := exec.Command("go", "build", "-o", shim, "../../cmd/tendril").CombinedOutput(); err != nil {
		t.Fatalf("build shim: %v: %s", err, out)
	}
	return shim
}

// shimConfig is what a container runtime gives the shim on the stand.
func shimConfig(s *sweep.Stand) string {
	return fmt.Sprintf(`{"cniVersion":"1.0.0","name":"tendril","type":"tendril","socket":%q,"spool":%q}`,
		filepath.Join(s.Dir, "run", "tendril.sock"), filepath.Join(s.Dir, "state", "spool"))
}

// call makes one call for a container in pod.
func (e executed) call(command, container string, pod *os.File) (*current.Result, *types.Error) {
	e.t.Helper()
	cmd := exec.CommandContext(e.t.Context(), e.program)
	cmd.Env = []string{"CNI_COMMAND=" + command, "CNI_CONTAINERID=" + container, "CNI_IFNAME=eth0", "CNI_PATH=" + e.path, "PATH=" + os.Getenv("PATH"),
		fmt.Sprintf("CNI_NETNS=/proc/%d/fd/%d", os.Getpid(), pod.Fd()), "CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=blue;K8S_POD_NAME=p;K8S_POD_UID=u1"}
	cmd.Stdin = strings.NewReader(e.config)
	out, err := cmd.Output()
	if err != nil {
		failure := &types.Error{}
		if json.Unmarshal(out, failure) != nil {
			e.t.Errorf("%s: %v: no error object: %s", command, err, out)
			failure.Msg = err.Error()
		}
		return nil, failure
	}
	result := &current.Result{}
	if len(out) > 0 && json.Unmarshal(out, result) != nil {
		e.t.Errorf("%s: no result: %s", command, out)
	}
	return result, nil
}

// must is call that has to succeed.
func (e executed) must(command, container string, pod *os.File) *current.Result {
	e.t.Helper()
	result, failure := e.call(command, container, pod)
	if failure != nil {
		e.t.Fatalf("%s %s: %v", command, container, failure)
	}
	return result
}
