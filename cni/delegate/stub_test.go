package delegate_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/cni/rpc"
)

// The test binary is also the plugin: run under the name of one and with this
// variable set, it writes down what it was given and does what "stub" in its
// configuration says.
const logVariable = "TENDRIL_STUB_LOG"

func TestMain(m *testing.M) {
	if log := os.Getenv(logVariable); log != "" && os.Getenv("CNI_COMMAND") != "" {
		os.Exit(stub(log))
	}
	os.Exit(m.Run())
}

// invocation is one line of the log.
type invocation struct {
	Plugin, Command string
	Env             map[string]string
	Stdin           map[string]any
}

// stubConfig is what a plugin of these tests reads.
type stubConfig struct {
	CNIVersion string          `json:"cniVersion"`
	PrevResult json.RawMessage `json:"prevResult"`
	Stub       struct {
		// Result is printed for ADD; without one the plugin passes prevResult on
		// with an interface of its own name added.
		Result json.RawMessage `json:"result"`
		// Silent prints nothing.
		Silent bool `json:"silent"`
		// Fail is the error object for a command.
		Fail map[string]*types.Error `json:"fail"`
	} `json:"stub"`
}

func stub(log string) int {
	stdin, err := io.ReadAll(os.Stdin)
	if err != nil {
		panic(err)
	}
	record(log, stdin)
	var c stubConfig
	if err := json.Unmarshal(stdin, &c); err != nil {
		panic(err)
	}
	command := os.Getenv("CNI_COMMAND")
	if e := c.Stub.Fail[command]; e != nil {
		_ = json.NewEncoder(os.Stdout).Encode(e)
		return 1
	}
	switch {
	case command != "ADD" || c.Stub.Silent:
	case c.Stub.Result != nil:
		os.Stdout.Write(c.Stub.Result)
	default:
		os.Stdout.Write(passedOn(c))
	}
	return 0
}

func record(log string, stdin []byte) {
	i := invocation{Plugin: filepath.Base(os.Args[0]), Command: os.Getenv("CNI_COMMAND"), Env: map[string]string{}}
	for _, kv := range os.Environ() {
		if k, v, _ := strings.Cut(kv, "="); strings.HasPrefix(k, "CNI_") {
			i.Env[k] = v
		}
	}
	if err := json.Unmarshal(stdin, &i.Stdin); err != nil {
		panic(err)
	}
	line, err := json.Marshal(i)
	if err != nil {
		panic(err)
	}
	f, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	if _, err := f.Write(append(line, '\n')); err != nil {
		panic(err)
	}
}

func passedOn(c stubConfig) []byte {
	res := map[string]any{}
	if c.PrevResult != nil {
		if err := json.Unmarshal(c.PrevResult, &res); err != nil {
			panic(err)
		}
	}
	res["cniVersion"] = c.CNIVersion
	list, _ := res["interfaces"].([]any)
	res["interfaces"] = append(list, map[string]any{"name": filepath.Base(os.Args[0])})
	out, err := json.Marshal(res)
	if err != nil {
		panic(err)
	}
	return out
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
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range plugins {
		if err := os.Symlink(self, filepath.Join(b.dir, p)); err != nil {
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
