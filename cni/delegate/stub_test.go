package delegate_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/cni/rpc"
)

// plugin is the built stub (testdata/stub); logVariable tells it where to write
// down its calls.
var plugin string

const logVariable = "TENDRIL_STUB_LOG"

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "stub")
	if err != nil {
		panic(err)
	}
	plugin = filepath.Join(dir, "stub")
	if out, err := exec.Command("go", "build", "-o", plugin, "./testdata/stub").CombinedOutput(); err != nil {
		panic(fmt.Sprintf("%v: %s", err, out))
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// invocation is one line of the log.
type invocation struct {
	Plugin, Command string
	Env             map[string]string
	Stdin           map[string]any
}

// bench is a place to run stub plugins in.
type bench struct {
	t        *testing.T
	dir, log string
}

func newBench(t *testing.T, plugins ...string) *bench {
	t.Helper()
	b := &bench{t: t, dir: t.TempDir()}
	b.log = filepath.Join(b.dir, "log")
	t.Setenv(logVariable, b.log)
	for _, p := range plugins {
		if err := os.Symlink(plugin, filepath.Join(b.dir, p)); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// run is the shim's part and the daemon's wiring of it.
func (b *bench) run(ctx context.Context, plugin string, stdin []byte, env []string) ([]byte, error) {
	res := rpc.Run(ctx, rpc.ExecRequest{Plugin: plugin, Dirs: []string{b.dir}, Stdin: stdin, Env: env})
	if res.Error != "" {
		return nil, errors.New(res.Error)
	}
	if res.ExitCode != 0 {
		e := &types.Error{}
		if err := json.Unmarshal(res.Stdout, e); err != nil {
			return nil, fmt.Errorf("stdout %q: %w", res.Stdout, err)
		}
		return nil, e
	}
	return res.Stdout, nil
}

// calls returns, and forgets, what the plugins were called with.
func (b *bench) calls() []invocation {
	b.t.Helper()
	data, err := os.ReadFile(b.log)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		b.t.Fatal(err)
	}
	var out []invocation
	for line := range bytes.Lines(data) {
		var i invocation
		if err := json.Unmarshal(line, &i); err != nil {
			b.t.Fatal(err)
		}
		out = append(out, i)
	}
	if err := os.Remove(b.log); err != nil {
		b.t.Fatal(err)
	}
	return out
}

// story tells calls in one line: what ran, and which interfaces prevResult had.
func story(calls []invocation) string {
	var out []string
	for _, c := range calls {
		out = append(out, c.Command+" "+c.Plugin+"("+interfaces(c.Stdin["prevResult"])+")")
	}
	return strings.Join(out, " ")
}

func interfaces(result any) string {
	m, ok := result.(map[string]any)
	if !ok {
		return "-"
	}
	var names []string
	list, _ := m["interfaces"].([]any)
	for _, i := range list {
		names = append(names, fmt.Sprint(i.(map[string]any)["name"]))
	}
	return strings.Join(names, ",")
}

// attachment is one of the network that config describes.
func attachment(t *testing.T, config string) cni.Attachment {
	t.Helper()
	n, err := netconf.ParseNetwork("test", []byte(config), "")
	if err != nil {
		t.Fatal(err)
	}
	return cni.Attachment{
		ContainerID: "c1", IfName: "net1", Kind: cni.KindExec, Network: "blue/" + n.Name, Config: n,
		Pod: cni.PodRef{Namespace: "blue", Name: "web", UID: "u1"}, Netns: cni.Netns{Path: "/run/netns/x"},
	}
}

// chain is a network of plugins, in a version.
func chain(version string, plugins ...string) string {
	return `{"cniVersion":"` + version + `","name":"n","plugins":[` + strings.Join(plugins, ",") + `]}`
}
