package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tendril-cni/tendril/cni/rpc"
)

const patience = 30 * time.Second

// shim is the built binary.
var shim string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "shim")
	if err != nil {
		panic(err)
	}
	shim = filepath.Join(dir, "tendril")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w -X main.version=v1.2.3", "-o", shim, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		panic(fmt.Sprintf("%v: %s", err, out))
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// outcome is what a runtime sees of a call.
type outcome struct {
	code           int
	stdout, stderr string
}

// failure is the error object of the CNI specification.
type failure struct {
	CNIVersion string
	Code       int
	Msg        string
	Details    string
}

func (o outcome) failure(t *testing.T) failure {
	t.Helper()
	var f failure
	if err := json.Unmarshal([]byte(o.stdout), &f); err != nil {
		t.Fatalf("stdout %q is no error object: %v", o.stdout, err)
	}
	if o.code == 0 {
		t.Errorf("exit code 0 with error %+v", f)
	}
	return f
}

// run calls the shim with nothing in its environment but env.
func run(t testing.TB, stdin string, env ...string) outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, shim)
	cmd.Env = env
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || ctx.Err() != nil) {
		t.Fatal(err)
	}
	return outcome{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// env is the environment of a call; more overrides.
func environment(command string, more ...string) []string {
	return append([]string{
		"CNI_COMMAND=" + command, "CNI_CONTAINERID=c1", "CNI_IFNAME=eth0", "CNI_NETNS=", "CNI_PATH=/opt/cni/bin",
		"CNI_ARGS=K8S_POD_NAME=web;X=y",
	}, more...)
}

func config(socket string, more string) string {
	return `{"cniVersion":"1.1.0","name":"tendril","type":"tendril","connectSeconds":0.1,"socket":"` + socket + `"` + more + `}`
}

type handler func(context.Context, *rpc.Call) rpc.Reply

func (h handler) Handle(ctx context.Context, c *rpc.Call) rpc.Reply { return h(ctx, c) }

func serve(t testing.TB, h handler) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "shim")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	ln, err := rpc.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- rpc.Serve(ctx, ln, h, slog.New(slog.NewTextHandler(io.Discard, nil))) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return socket
}

func TestDaemonGetsTheCallAndTheRuntimeGetsTheAnswer(t *testing.T) {
	netns := otherNamespace(t)
	var got rpc.Request
	var opened bool
	socket := serve(t, func(_ context.Context, c *rpc.Call) rpc.Reply {
		got = c.Request
		if c.Netns != nil {
			want, err1 := os.Stat(netns)
			have, err2 := c.Netns.Stat()
			opened = err1 == nil && err2 == nil && os.SameFile(want, have)
		}
		return rpc.Reply{Stdout: []byte(`{"cniVersion":"1.1.0"}`), ExitCode: 3}
	})
	stdin := config(socket, `,"unknown":{"kept":true}`)
	o := run(t, stdin, environment("ADD", "CNI_NETNS="+netns, "CNI_EXTRA=e", "OTHER=o")...)
	if o.stdout != `{"cniVersion":"1.1.0"}` || o.code != 3 || o.stderr != "" {
		t.Errorf("outcome %+v", o)
	}
	want := rpc.Request{
		Command: "ADD", ContainerID: "c1", IfName: "eth0", NetnsPath: netns, Args: "K8S_POD_NAME=web;X=y", Path: "/opt/cni/bin",
		StdinData: []byte(stdin), Env: map[string]string{"CNI_EXTRA": "e"},
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(rpc.Request{}, "ID", "TimeoutMillis")); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}
	if !strings.HasPrefix(got.ID, "c1-") || !opened {
		t.Errorf("id %q, the namespace came along: %v", got.ID, opened)
	}
}

func TestDaemonsPluginRunsBesideTheRuntime(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "p"), []byte("#!/bin/sh\ncat; echo \"$CNI_COMMAND $OF_THE_RUNTIME\""), 0o755); err != nil {
		t.Fatal(err)
	}
	socket := serve(t, func(ctx context.Context, c *rpc.Call) rpc.Reply {
		res, err := c.Exec(ctx, rpc.ExecRequest{Plugin: "p", Stdin: []byte("in "), Env: []string{"CNI_COMMAND=DEL"}})
		if err != nil {
			t.Error(err)
		}
		return rpc.Reply{Stdout: res.Stdout}
	})
	o := run(t, config(socket, ""), environment("DEL", "CNI_PATH="+dir, "OF_THE_RUNTIME=kept", "PATH="+os.Getenv("PATH"))...)
	if o.code != 0 || o.stdout != "in DEL kept\n" {
		t.Errorf("outcome %+v", o)
	}
}

func TestInvariant1WithoutADaemonNothingSucceeds(t *testing.T) {
	netns := otherNamespace(t)
	absent := filepath.Join(t.TempDir(), "absent.sock")
	for command, code := range map[string]int{"ADD": 11, "DEL": 11, "CHECK": 11, "GC": 11, "STATUS": 50} {
		o := run(t, config(absent, ""), environment(command, "CNI_NETNS="+netns)...)
		f := o.failure(t)
		if o.code != 1 || f.Code != code || f.CNIVersion != "1.1.0" || !strings.Contains(f.Msg, absent) || !strings.Contains(f.Details, "no daemon listens") {
			t.Errorf("%s: exit code %d, error %+v", command, o.code, f)
		}
	}
}

func TestInvariant1DaemonThatDoesNotAnswer(t *testing.T) {
	netns := otherNamespace(t)
	calls := make(chan struct{}, 100)
	deaf := serve(t, func(context.Context, *rpc.Call) rpc.Reply {
		calls <- struct{}{}
		time.Sleep(time.Second)
		return rpc.Reply{}
	})
	f := run(t, config(deaf, `,"timeoutSeconds":0.3`), environment("ADD", "CNI_NETNS="+netns)...).failure(t)
	if f.Code != 11 || !strings.Contains(f.Details, "deadline exceeded") || len(calls) != 1 {
		t.Errorf("error %+v after %d calls", f, len(calls))
	}
}

func TestInvariant1DaemonOfAnotherRelease(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	ln, err := rpc.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		if conn, err := ln.Accept(); err == nil {
			_, _ = conn.Read(make([]byte, 1<<16))
			_, _ = conn.Write([]byte("Td\x63\x05\x00\x00\x00\x00"))
			conn.Close()
		}
	}()
	f := run(t, config(socket, ""), environment("DEL")...).failure(t)
	if f.Code != 11 || !strings.Contains(f.Details, "protocol version 99 is not supported; allowed: 1") {
		t.Errorf("error %+v", f)
	}
}

func TestWhatTheBinaryIsMadeOf(t *testing.T) {
	info, err := os.Stat(shim)
	if err != nil || info.Size() >= 4<<20 {
		t.Errorf("size %d, error %v; want less than 4 MiB", info.Size(), err)
	}
	list := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".")
	list.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	const module = "github.com/tendril-cni/tendril/"
	if diff := cmp.Diff([]string{module + "cni/rpc", module + "cni/spool", module + "cmd/tendril"}, strings.Fields(string(out))); diff != "" {
		t.Errorf("packages outside the standard library (-want +got):\n%s", diff)
	}
	deps, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, heavy := range []string{"net/http", "crypto/tls", "text/template", "flag"} {
		if slices.Contains(strings.Fields(string(deps)), heavy) {
			t.Errorf("%s is linked: it costs every pod's start", heavy)
		}
	}
	if data, err := os.ReadFile(shim); err != nil || bytes.Contains(data, []byte("/lib64/ld-linux")) {
		t.Errorf("the binary asks for a dynamic linker (error %v)", err)
	}
}

func TestVersionNeedsNoDaemonAndNoConfiguration(t *testing.T) {
	want := `{"cniVersion":"1.1.0","supportedVersions":["0.1.0","0.2.0","0.3.0","0.3.1","0.4.0","1.0.0","1.1.0"]}` + "\n"
	if o := run(t, "", "CNI_COMMAND=VERSION"); o != (outcome{0, want, ""}) {
		t.Errorf("outcome %+v", o)
	}
}

func TestPersonWhoStartsIt(t *testing.T) {
	want := outcome{0, "", "CNI plugin tendril v1.2.3\nCNI protocol versions supported: 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0\n"}
	if o := run(t, ""); o != want {
		t.Errorf("outcome %+v", o)
	}
}

func TestBadCallsAreRefusedBeforeTheDaemonHearsOfThem(t *testing.T) {
	socket := serve(t, func(context.Context, *rpc.Call) rpc.Reply {
		t.Error("the daemon was called")
		return rpc.Reply{}
	})
	good := config(socket, "")
	old := func(v string) string { return strings.Replace(good, "1.1.0", v, 1) }
	for name, tc := range map[string]struct {
		stdin string
		env   []string
		code  int
		want  string
	}{
		"unknown command":   {good, environment("EAT"), 4, `CNI_COMMAND: value "EAT" is not allowed; allowed: ADD`},
		"no container":      {good, environment("DEL", "CNI_CONTAINERID="), 4, "required env variables [CNI_CONTAINERID] missing"},
		"nothing":           {good, []string{"CNI_COMMAND=ADD"}, 4, "[CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME,CNI_PATH] missing"},
		"no namespace":      {good, environment("ADD"), 4, "[CNI_NETNS] missing"},
		"container a path":  {good, environment("DEL", "CNI_CONTAINERID=../x"), 4, `CNI_CONTAINERID: value "../x"`},
		"long name":         {good, environment("DEL", "CNI_IFNAME=sixteen-bytes-xx"), 4, "CNI_IFNAME"},
		"name with a colon": {good, environment("DEL", "CNI_IFNAME=a:b"), 4, "CNI_IFNAME"},
		"namespace absent":  {good, environment("ADD", "CNI_NETNS=/absent"), 4, "CNI_NETNS: open /absent"},
		"own namespace":     {good, environment("ADD", "CNI_NETNS=/proc/self/ns/net"), 8, "other than the runtime's own"},
		"no JSON":           {"{", environment("DEL"), 6, "decode the network configuration"},
		"empty":             {"", environment("DEL"), 6, "decode the network configuration"},
		"wrong type":        {`{"name":7}`, environment("DEL"), 6, "name"},
		"no network name":   {`{"cniVersion":"1.0.0"}`, environment("DEL"), 7, `name: value ""`},
		"version of later":  {old("2.0.0"), environment("DEL"), 1, "incompatible CNI versions"},
		"CHECK too old":     {old("0.3.1"), environment("CHECK", "CNI_NETNS=/x"), 1, "does not allow CHECK"},
		"STATUS too old":    {old("1.0.0"), environment("STATUS"), 1, "does not allow STATUS"},
		"GC too old":        {old("1.0.0"), environment("GC"), 1, "does not allow GC"},
		"relative socket":   {config("run/s", ""), environment("DEL"), 7, `socket: value "run/s" is not allowed; allowed: an absolute path`},
		"no time":           {config(socket, `,"timeoutSeconds":0`), environment("DEL"), 7, `timeoutSeconds: value "0" is not allowed; allowed: more than 0`},
		"less than no time": {config(socket, `,"timeoutSeconds":-1`), environment("DEL"), 7, "timeoutSeconds"},
		"negative patience": {strings.Replace(good, "0.1", "-1", 1), environment("DEL"), 7, `connectSeconds: value "-1"`},
		"all time there is": {config(socket, `,"timeoutSeconds":1e9`), environment("DEL"), 7, "at most 3600"},
	} {
		t.Run(name, func(t *testing.T) {
			o := run(t, tc.stdin, tc.env...)
			if f := o.failure(t); f.Code != tc.code || !strings.Contains(f.Msg, tc.want) || o.code != 1 {
				t.Errorf("exit code %d, error %+v; want code %d, %q", o.code, f, tc.code, tc.want)
			}
		})
	}
}

// DEL and CHECK go through without a namespace; one that is the runtime's own,
// by a path that was reused, is not handed on.
func TestNamespaceThatIsGone(t *testing.T) {
	handed := true
	socket := serve(t, func(_ context.Context, c *rpc.Call) rpc.Reply {
		handed = c.Netns != nil
		return rpc.Reply{}
	})
	for _, path := range []string{"", "/absent", "/proc/self/ns/net"} {
		handed = true
		if o := run(t, config(socket, ""), environment("DEL", "CNI_NETNS="+path)...); o != (outcome{}) || handed {
			t.Errorf("%q: outcome %+v, handed over %v", path, o, handed)
		}
	}
	if o := run(t, config(socket, ""), environment("ADD", "CNI_NETNS=/proc/self/ns/net", "CNI_NETNS_OVERRIDE=1")...); o != (outcome{}) || !handed {
		t.Errorf("override: outcome %+v, handed over %v", o, handed)
	}
}

// otherNamespace is the path of a file that is not the network namespace of the
// test. What it is of, the daemon finds out.
func otherNamespace(t *testing.T) string {
	t.Helper()
	return "/proc/self/ns/uts"
}

// BenchmarkShim is the shim's whole cost to a runtime: the process and one call
// to a daemon that answers at once.
func BenchmarkShim(b *testing.B) {
	socket := serve(b, func(context.Context, *rpc.Call) rpc.Reply { return rpc.Reply{Stdout: []byte("{}")} })
	var took []time.Duration
	for b.Loop() {
		start := time.Now()
		if o := run(b, config(socket, ""), environment("DEL")...); o.code != 0 {
			b.Fatalf("outcome %+v", o)
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "median-µs")
}
