package delegate_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/google/go-cmp/cmp"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/delegate"
	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/cni/refusal"
)

func TestChainOrderAndResults(t *testing.T) {
	b := newBench(t, "a", "b", "c")
	d := delegate.New(t.TempDir())
	at := attachment(t, chain("1.0.0", `{"type":"a"}`, `{"type":"b"}`, `{"type":"c"}`))
	res, err := d.Add(t.Context(), b.run, at)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := story(b.calls()), "ADD a(-) ADD b(a) ADD c(a,b)"; got != want {
		t.Errorf("ADD: %s\nwant %s", got, want)
	}
	if err := d.Check(t.Context(), b.run, at, res); err != nil {
		t.Fatal(err)
	}
	if got, want := story(b.calls()), "CHECK a(a,b,c) CHECK b(a,b,c) CHECK c(a,b,c)"; got != want {
		t.Errorf("CHECK: %s\nwant %s", got, want)
	}
	for range 2 { // a DEL may come twice
		if err := d.Del(t.Context(), b.run, at, res); err != nil {
			t.Fatal(err)
		}
		if got, want := story(b.calls()), "DEL c(a,b,c) DEL b(a,b,c) DEL a(a,b,c)"; got != want {
			t.Errorf("DEL: %s\nwant %s", got, want)
		}
	}
}

func TestFailureStopsTheChain(t *testing.T) {
	b := newBench(t, "a", "b", "c")
	d := delegate.New(t.TempDir())
	fail := `{"type":"b","stub":{"fail":{"ADD":{"code":100,"msg":"no cable","details":"d"},"DEL":{"code":101,"msg":"still no cable"}}}}`
	at := attachment(t, chain("1.0.0", `{"type":"a"}`, fail, `{"type":"c"}`))
	_, err := d.Add(t.Context(), b.run, at)
	var plugin *types.Error
	if !errors.As(err, &plugin) || plugin.Code != 100 || plugin.Details != "d" {
		t.Errorf("error %v, want the plugin's with code 100", err)
	}
	if err == nil || !strings.Contains(err.Error(), `add network "n"`) || !strings.Contains(err.Error(), `type="b"`) {
		t.Errorf("error %v, want it to name network and plugin", err)
	}
	if got, want := story(b.calls()), "ADD a(-) ADD b(a)"; got != want {
		t.Errorf("ADD: %s\nwant %s", got, want)
	}
	// The undo of a failed ADD: every plugin, with no result to give.
	err = d.Del(t.Context(), b.run, at, nil)
	if !errors.As(err, &plugin) || plugin.Code != 101 {
		t.Errorf("error %v, want the plugin's with code 101", err)
	}
	if got, want := story(b.calls()), "DEL c(-) DEL b(-)"; got != want {
		t.Errorf("DEL: %s\nwant %s", got, want)
	}
}

func TestDelDependsOnItsArguments(t *testing.T) {
	b := newBench(t, "a")
	at := attachment(t, chain("1.0.0", `{"type":"a"}`))
	given := json.RawMessage(`{"cniVersion":"1.1.0","interfaces":[{"name":"of-the-journal"}]}`)
	for name, tc := range map[string]struct {
		wipe   bool
		result json.RawMessage
		want   string
	}{
		"given, cache wiped by a reboot":    {true, given, "DEL a(of-the-journal)"},
		"given, cache of another opinion":   {false, given, "DEL a(of-the-journal)"},
		"not recorded, but cached":          {false, nil, "DEL a(a)"},
		"neither recorded nor cached: done": {true, nil, "DEL a(-)"},
	} {
		t.Run(name, func(t *testing.T) {
			cache := filepath.Join(t.TempDir(), "cache")
			d := delegate.New(cache)
			if _, err := d.Add(t.Context(), b.run, at); err != nil {
				t.Fatal(err)
			}
			b.calls()
			if tc.wipe {
				if err := os.RemoveAll(cache); err != nil {
					t.Fatal(err)
				}
			}
			if err := d.Del(t.Context(), b.run, at, tc.result); err != nil {
				t.Fatal(err)
			}
			if got := story(b.calls()); got != tc.want {
				t.Errorf("%s, want %s", got, tc.want)
			}
			left, err := filepath.Glob(filepath.Join(cache, "results", "*"))
			if err != nil || len(left) != 0 {
				t.Errorf("cache has %v after DEL, error %v", left, err)
			}
		})
	}
}

func TestVersions(t *testing.T) {
	b := newBench(t, "a", "b")
	old := `{"type":"a","stub":{"result":{"cniVersion":"0.2.0","ip4":{"ip":"10.0.0.5/24","gateway":"10.0.0.1"}}}}`
	for version, result := range map[string]string{
		"0.2.0": old,
		"0.3.1": `{"type":"a","stub":{"result":{"cniVersion":"0.3.1","ips":[{"version":"4","address":"10.0.0.5/24","gateway":"10.0.0.1"}]}}}`,
		"1.0.0": `{"type":"a","stub":{"result":{"cniVersion":"1.0.0","ips":[{"address":"10.0.0.5/24","gateway":"10.0.0.1"}]}}}`,
		"1.1.0": `{"type":"a","stub":{"result":{"cniVersion":"1.1.0","ips":[{"address":"10.0.0.5/24","gateway":"10.0.0.1"}]}}}`,
	} {
		t.Run(version, func(t *testing.T) {
			d := delegate.New(t.TempDir())
			at := attachment(t, chain(version, result))
			res, err := d.Add(t.Context(), b.run, at)
			if err != nil {
				t.Fatal(err)
			}
			var got struct {
				CNIVersion string
				IPs        []struct{ Address, Gateway string }
			}
			if err := json.Unmarshal(res, &got); err != nil {
				t.Fatal(err)
			}
			if got.CNIVersion != "1.1.0" || len(got.IPs) != 1 || got.IPs[0].Address != "10.0.0.5/24" || got.IPs[0].Gateway != "10.0.0.1" {
				t.Errorf("result %s", res)
			}
			b.calls()
			if err := d.Del(t.Context(), b.run, at, res); err != nil {
				t.Fatal(err)
			}
			prev, _ := b.calls()[0].Stdin["prevResult"].(map[string]any)
			if version < "0.4.0" {
				if prev != nil {
					t.Errorf("a plugin of %s got prevResult %v on DEL", version, prev)
				}
			} else if prev["cniVersion"] != version {
				t.Errorf("prevResult is of %v, want %s", prev["cniVersion"], version)
			}
		})
	}
}

func TestOurselvesAreNotDelegatedTo(t *testing.T) {
	b := newBench(t, "a", "tendril", "multus", "multus-shim")
	d := delegate.New(t.TempDir())
	for _, kind := range []string{"tendril", "multus", "multus-shim"} {
		at := attachment(t, chain("1.1.0", `{"type":"a"}`, `{"type":"`+kind+`"}`))
		_, addErr := d.Add(t.Context(), b.run, at)
		for _, err := range []error{
			addErr, d.Del(t.Context(), b.run, at, nil), d.Check(t.Context(), b.run, at, nil),
			d.Status(t.Context(), b.run, at.Config), d.GC(t.Context(), b.run, at.Config, nil),
		} {
			var r *refusal.Refusal
			if !errors.As(err, &r) || r.Field != "plugins[1].type" || !strings.Contains(r.Value, kind) || r.Object != `network "n"` {
				t.Errorf("%s: error %v", kind, err)
			}
		}
	}
	if calls := b.calls(); calls != nil {
		t.Errorf("ran %s", story(calls))
	}
}

func TestWhatAPluginIsGiven(t *testing.T) {
	t.Setenv("OF_THE_DAEMON", "secret")
	b := newBench(t, "a", "b")
	var envs [][]string
	run := func(ctx context.Context, plugin string, stdin []byte, env []string) ([]byte, error) {
		envs = append(envs, env)
		return b.run(ctx, plugin, stdin, env)
	}
	at := attachment(t, chain("1.0.0",
		`{"type":"a","capabilities":{"ips":true,"mac":false},"keep":{"deep":[1,"x"]},"ipam":{"type":"foreign","odd":true}}`,
		`{"type":"b"}`))
	at.CNIArgs = "IgnoreUnknown=true;K8S_POD_NAMESPACE=blue;K8S_POD_NAME=web;K8S_POD_UID=u1;X=1=2;X=3;IP=10.0.0.5/24"
	at.RuntimeConfig = map[string]json.RawMessage{"ips": json.RawMessage(`["10.0.0.5/24"]`), "mac": json.RawMessage(`"02:00:00:00:00:01"`)}
	if _, err := delegate.New(t.TempDir()).Add(t.Context(), run, at); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"CNI_ARGS=" + at.CNIArgs, "CNI_COMMAND=ADD", "CNI_CONTAINERID=c1", "CNI_IFNAME=net1", "CNI_NETNS=/run/netns/x",
	}
	for i, env := range envs {
		if diff := cmp.Diff(want, env); diff != "" {
			t.Errorf("environment of plugin %d (-want +got):\n%s", i, diff)
		}
	}
	calls := b.calls()
	if got := calls[0].Env["CNI_PATH"]; got != b.dir {
		t.Errorf("CNI_PATH %q, want %q", got, b.dir)
	}
	for _, c := range calls {
		delete(c.Stdin, "prevResult")
	}
	wantStdin := []map[string]any{{
		"cniVersion": "1.0.0", "name": "n", "type": "a",
		"capabilities":  map[string]any{"ips": true, "mac": false},
		"keep":          map[string]any{"deep": []any{1.0, "x"}},
		"ipam":          map[string]any{"type": "foreign", "odd": true},
		"runtimeConfig": map[string]any{"ips": []any{"10.0.0.5/24"}},
	}, {
		"cniVersion": "1.0.0", "name": "n", "type": "b",
	}}
	if diff := cmp.Diff(wantStdin, []map[string]any{calls[0].Stdin, calls[1].Stdin}); diff != "" {
		t.Errorf("stdin (-want +got):\n%s", diff)
	}
}

func TestPluginThatReportsNothing(t *testing.T) {
	b := newBench(t, "a", "b")
	d := delegate.New(t.TempDir())
	res, err := d.Add(t.Context(), b.run, attachment(t, chain("1.0.0", `{"type":"a","stub":{"silent":true}}`)))
	if err != nil || !json.Valid(res) || strings.Contains(string(res), "interfaces") {
		t.Errorf("result %s, error %v; want one without interfaces", res, err)
	}
	_, err = d.Add(t.Context(), b.run, attachment(t, chain("1.0.0", `{"type":"a"}`, `{"type":"b","stub":{"silent":true}}`)))
	if err == nil {
		t.Error("a chain that lost its result was taken for attached")
	}
}

func TestCheckWhereItDoesNotExist(t *testing.T) {
	b := newBench(t, "a")
	d := delegate.New(t.TempDir())
	for _, config := range []string{
		chain("0.3.1", `{"type":"a"}`),
		`{"cniVersion":"1.0.0","name":"n","disableCheck":true,"plugins":[{"type":"a"}]}`,
	} {
		if err := d.Check(t.Context(), b.run, attachment(t, config), nil); err != nil {
			t.Errorf("%s: %v", config, err)
		}
	}
	if calls := b.calls(); calls != nil {
		t.Errorf("ran %s", story(calls))
	}
}

func TestStatus(t *testing.T) {
	b := newBench(t, "a", "b")
	d := delegate.New(t.TempDir())
	not := `{"type":"a","stub":{"fail":{"STATUS":{"code":50,"msg":"not yet"}}}}`
	status := func(config string) error {
		return d.Status(t.Context(), b.run, attachment(t, config).Config)
	}
	var plugin *types.Error
	if err := status(chain("1.1.0", not, `{"type":"b"}`)); !errors.As(err, &plugin) || plugin.Code != 50 {
		t.Errorf("error %v, want code 50", err)
	}
	if got := story(b.calls()); got != "STATUS a(-)" {
		t.Errorf("ran %s, want the first error to count", got)
	}
	if err := status(chain("1.0.0", not)); err != nil || b.calls() != nil {
		t.Errorf("a network without STATUS was asked, error %v", err)
	}
}

func TestGCForwardsAndDetachesNothing(t *testing.T) {
	b := newBench(t, "a", "b")
	d := delegate.New(t.TempDir())
	config := chain("1.1.0", `{"type":"a","stub":{"fail":{"GC":{"code":100,"msg":"no"}}}}`, `{"type":"b"}`)
	if _, err := d.Add(t.Context(), b.run, attachment(t, config)); err != nil {
		t.Fatal(err)
	}
	b.calls()
	valid := []types.GCAttachment{{ContainerID: "c2", IfName: "net1"}}
	if err := d.GC(t.Context(), b.run, attachment(t, config).Config, valid); err == nil {
		t.Error("the error of a plugin is lost")
	}
	calls := b.calls()
	if got := story(calls); got != "GC a(-) GC b(-)" {
		t.Errorf("ran %s", got)
	}
	want := []any{map[string]any{"containerID": "c2", "ifname": "net1"}}
	if diff := cmp.Diff(want, calls[0].Stdin["cni.dev/valid-attachments"]); diff != "" {
		t.Errorf("valid attachments (-want +got):\n%s", diff)
	}
}

func TestWithoutARuntimeNothingRuns(t *testing.T) {
	d := delegate.New(t.TempDir())
	if err := d.Del(t.Context(), nil, attachment(t, chain("1.0.0", `{"type":"a"}`)), nil); err == nil {
		t.Error("DEL without anybody to run the plugin succeeded")
	}
}

func TestNamesThatWouldLeaveTheCache(t *testing.T) {
	b := newBench(t, "a")
	d := delegate.New(t.TempDir())
	good := attachment(t, chain("1.0.0", `{"type":"a"}`))
	var bad []cni.Attachment
	for _, name := range []string{"../x", "", "a/b"} {
		one, two, three := good, good, good
		one.ContainerID, two.IfName, three.Config.Name = name, name, name
		bad = append(bad, one, two, three)
	}
	for _, a := range bad {
		_, addErr := d.Add(t.Context(), b.run, a)
		for _, err := range []error{addErr, d.Del(t.Context(), b.run, a, json.RawMessage(`{"cniVersion":"1.0.0"}`))} {
			var r *refusal.Refusal
			if !errors.As(err, &r) || r.Object != "attachment of pod blue/web" {
				t.Errorf("%q %q %q: error %v", a.ContainerID, a.IfName, a.Config.Name, err)
			}
		}
	}
	if calls := b.calls(); calls != nil {
		t.Errorf("ran %s", story(calls))
	}
}

// A device that WithDevice put there reaches the plugin on ADD and on DEL.
func TestDeviceReachesThePlugin(t *testing.T) {
	b := newBench(t, "a")
	d := delegate.New(t.TempDir())
	at := attachment(t, chain("1.0.0", `{"type":"a"}`))
	at.Config = netconf.WithDevice(at.Config, "0000:01:10.2")
	res, err := d.Add(t.Context(), b.run, at)
	if err == nil {
		err = d.Del(t.Context(), b.run, at, res)
	}
	if err != nil {
		t.Fatal(err)
	}
	calls := b.calls()
	if len(calls) != 2 || slices.ContainsFunc(calls, func(c invocation) bool {
		return c.Stdin["deviceID"] != "0000:01:10.2" || c.Stdin["pciBusID"] != "0000:01:10.2"
	}) {
		t.Errorf("calls %+v", calls)
	}
}
