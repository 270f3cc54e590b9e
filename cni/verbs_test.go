package cni_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/google/go-cmp/cmp"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netconf"
)

// verbs is a delegate with all verbs of the specification. It notes the calls.
type verbs struct {
	delegate
	calls []string
	fail  map[string]error
}

func (v *verbs) Check(_ context.Context, _ cni.Runner, a cni.Attachment, result json.RawMessage) error {
	v.calls = append(v.calls, fmt.Sprintf("check %s routes=%v", a.IfName, strings.Contains(string(result), "0.0.0.0/0")))
	return v.fail["check"]
}

func (v *verbs) Status(_ context.Context, _ cni.Runner, n netconf.Network) error {
	v.calls = append(v.calls, "status "+n.Name)
	return v.fail["status"]
}

func (v *verbs) GC(_ context.Context, _ cni.Runner, n netconf.Network, valid []types.GCAttachment) error {
	var list []string
	for _, a := range valid {
		list = append(list, a.ContainerID+"/"+a.IfName)
	}
	slices.Sort(list)
	v.calls = append(v.calls, "gc "+n.Name+" "+strings.Join(list, " "))
	return v.fail["gc"]
}

// checking is a driver with CHECK.
type checking struct {
	driver
	lost map[string]error
}

func (c checking) Check(_ context.Context, _ *os.File, r cni.Record) error {
	return c.lost[r.Attachment.IfName]
}

func checked(t *testing.T) (*world, *cni.Engine, *verbs, checking) {
	w := standard(t)
	e := w.engine()
	v := &verbs{delegate: delegate{w}, fail: map[string]error{}}
	c := checking{driver{w}, map[string]error{}}
	e.Delegate = v
	e.Drivers = map[string]cni.Driver{cni.KindMacvlan: c, cni.KindIpvlan: c, cni.KindSriov: c}
	if _, err := e.Add(context.Background(), request("c1")); err != nil {
		t.Fatal(err)
	}
	return w, e, v, c
}

func TestCheckLooksAtEveryAttachment(t *testing.T) {
	w, e, v, c := checked(t)
	if err := e.Check(context.Background(), request("c1")); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"check eth0 routes=true"}, v.calls); d != "" {
		t.Error(d)
	}
	c.lost["net1"], c.lost["net3"] = errors.New("address is gone"), errors.New("link is gone")
	v.fail["check"] = errors.New("bridge is gone")
	err := e.Check(context.Background(), request("c1"))
	for _, part := range []string{"blue/fast on net1: address is gone", "blue/signal on net3: link is gone", "cbr0 on eth0: bridge is gone"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("error does not say %q: %v", part, err)
		}
	}
	if got := w.String(); got != attachedWorld {
		t.Errorf("CHECK changed something:\n%s", got)
	}
}

func TestCheckWithoutTheNamespaceOrTheContainer(t *testing.T) {
	w, e, _, _ := checked(t)
	if err := e.Check(context.Background(), request("c2")); err == nil {
		t.Error("a container that was never added passes CHECK")
	}
	r := request("c1")
	r.Netns, w.gone = nil, true
	if err := e.Check(context.Background(), r); err == nil || !strings.Contains(err.Error(), "/ns is gone") {
		t.Errorf("error = %v, want that the namespace is gone", err)
	}
}

// TestCheckKnowsOfMovedDefaultRoutes: what the plugins of the default network are
// asked to check is what its interface has, not what they once gave it.
func TestCheckKnowsOfMovedDefaultRoutes(t *testing.T) {
	w, e, r := routed(t, `[{"name":"storage","default-route":["192.0.2.6"]}]`)
	v := &verbs{delegate: delegate{w}}
	e.Delegate, e.DefaultRoutes = v, r
	if _, err := e.Add(context.Background(), request("c1")); err != nil {
		t.Fatal(err)
	}
	if err := e.Check(context.Background(), request("c1")); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"check eth0 routes=false"}, v.calls); d != "" {
		t.Error(d)
	}
}

func TestGCDeletesWhatTheRuntimeDoesNotHaveAndForwardsTheRest(t *testing.T) {
	for _, key := range []string{"cni.dev/valid-attachments", "cni.dev/attachments"} {
		t.Run(key, func(t *testing.T) {
			w, e, v, _ := checked(t)
			w.devices = map[string][]string{"tendril.dev/vf": {"0000:01:10.2"}}
			w.pod("fast,storage@store0,foreign")
			w.nads["blue/foreign"] = cni.Definition{Namespace: "blue", Name: "foreign", Config: `{"cniVersion":"1.1.0","type":"vendor"}`}
			if _, err := e.Add(context.Background(), request("c2")); err != nil {
				t.Fatal(err)
			}
			gc := request("")
			gc.Config = []byte(`{"cniVersion":"1.1.0","` + key + `":[{"containerID":"c2","ifname":"eth0"},{"containerID":"old","ifname":"eth0"}]}`)
			if err := e.GC(context.Background(), gc); err != nil {
				t.Fatal(err)
			}
			if got := w.String(); strings.Contains(got, "c1/") || strings.Count(got, "c2/") != 4 {
				t.Errorf("left over:\n%s", got)
			}
			want := []string{"gc cbr0 c2/eth0 old/eth0", "gc foreign c2/net3"}
			if d := cmp.Diff(want, v.calls); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestGCWithoutAListTouchesNothing(t *testing.T) {
	w, e, v, _ := checked(t)
	gc := request("")
	gc.Config = []byte(`{"cniVersion":"1.1.0"}`)
	if err := e.GC(context.Background(), gc); err == nil {
		t.Error("GC without a list succeeds")
	}
	if w.String() != attachedWorld || len(v.calls) > 0 {
		t.Errorf("GC without a list did something: %v\n%s", v.calls, w)
	}
}

func TestStatus(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*cni.Engine, *verbs)
		code   uint
		says   string
	}{
		"ready":              {func(*cni.Engine, *verbs) {}, 0, ""},
		"daemon not ready":   {func(e *cni.Engine, _ *verbs) { e.Ready = func() error { return errors.New("pools are empty") } }, 50, "pools are empty"},
		"no default network": {func(e *cni.Engine, _ *verbs) { e.Default = noDefault }, 50, "none configured"},
		"named one is missing": {func(e *cni.Engine, _ *verbs) {
			e.Node = func() netconf.Node { return netconf.Node{ClusterNetwork: "nowhere"} }
		}, 50, "nowhere"},
		"its plugins say no":    {func(_ *cni.Engine, v *verbs) { v.fail["status"] = errors.New("no range") }, 50, "no range"},
		"its plugins say worse": {func(_ *cni.Engine, v *verbs) { v.fail["status"] = &types.Error{Code: 51, Msg: "tunnel down"} }, 51, "tunnel down"},
	} {
		t.Run(name, func(t *testing.T) {
			w := standard(t)
			e := w.engine()
			v := &verbs{delegate: delegate{w}, fail: map[string]error{}}
			e.Delegate = v
			c.change(e, v)
			err := e.Available(context.Background(), request(""))
			if c.code == 0 {
				if err != nil || !slices.Equal(v.calls, []string{"status cbr0"}) {
					t.Errorf("error = %v, calls %v", err, v.calls)
				}
				return
			}
			var typed *types.Error
			if !errors.As(err, &typed) || typed.Code != c.code || !strings.Contains(typed.Details, c.says) {
				t.Errorf("error = %+v, want code %d with %q", err, c.code, c.says)
			}
		})
	}
}

func noDefault() (netconf.Network, error) { return netconf.Network{}, errors.New("none configured") }

// TestRecoverPublishesAgain: the daemon may have ended before it wrote a status.
func TestRecoverPublishesAgain(t *testing.T) {
	w := standard(t)
	path := filepath.Join(t.TempDir(), "journal.db")
	e, j := w.start(path, nil)
	if _, err := e.Add(context.Background(), request("c1")); err != nil {
		t.Fatal(err)
	}
	want := w.status["blue/p"]
	j.Close()
	w.status = map[string][]cni.NetworkStatus{}
	_, j = w.start(path, nil)
	defer j.Close()
	if d := cmp.Diff(want, w.status["blue/p"]); d != "" || len(want) != 4 {
		t.Error(d)
	}
}

func TestSweepIsOnlyAShortcut(t *testing.T) {
	for name, fail := range map[string]error{"that works": nil, "that fails": errors.New("kernel says no")} {
		t.Run(name, func(t *testing.T) {
			w, e, _, _ := checked(t)
			swept := 0
			e.Sweep = func(_ context.Context, ns *os.File, records []cni.Record, _ *slog.Logger) error {
				swept += len(records)
				return fail
			}
			if err := e.Del(context.Background(), request("c1")); err != nil {
				t.Fatal(err)
			}
			if w.String() != "" || swept != 4 {
				t.Errorf("swept %d records, left over:\n%s", swept, w)
			}
		})
	}
}

// infos is a directory of device-info files.
type infos struct {
	files map[string]string
	fail  error
}

func (i infos) Prepare(a cni.Attachment) error {
	i.files[a.InfoFile()] = i.files[a.Device]
	return i.fail
}

func (i infos) Read(a cni.Attachment) (json.RawMessage, error) {
	if own := i.files[a.InfoFile()]; own != "" {
		return json.RawMessage(own), nil
	}
	return json.RawMessage(i.files[a.Device]), nil
}

func (i infos) Remove(a cni.Attachment) error {
	delete(i.files, a.InfoFile())
	return i.fail
}

func TestDeviceInfoReachesStatus(t *testing.T) {
	w := standard(t)
	w.nads["blue/fast"] = cni.Definition{Namespace: "blue", Name: "fast", Resource: "tendril.dev/vf", Config: `{"type":"vendor","capabilities":{"CNIDeviceInfoFile":true}}`}
	w.nads["blue/native"] = cni.Definition{Namespace: "blue", Name: "native", Resource: "tendril.dev/vf", Config: `{"type":"sriov"}`}
	w.pod("fast,native,native")
	w.devices = map[string][]string{"tendril.dev/vf": {"0000:01:10.0", "0000:01:10.2", "0000:01:10.4"}}
	e := w.engine()
	files := infos{files: map[string]string{"0000:01:10.0": `{"type":"vdpa","version":"1.1.0"}`, "0000:01:10.2": `{"type":"pci","version":"1.0.0"}`}}
	e.DeviceInfo = files
	if _, err := e.Add(context.Background(), request("c1")); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range w.status["blue/p"] {
		text, _ := json.Marshal(s.DeviceInfo)
		got = append(got, string(text))
	}
	want := []string{"null", `{"type":"vdpa","version":"1.1.0"}`, `{"type":"pci","version":"1.0.0"}`,
		`{"pci":{"pci-address":"0000:01:10.4"},"type":"pci","version":"1.1.0"}`}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	const own = "/var/run/k8s.cni.cncf.io/devinfo/cni/blue-fast-c1_net1"
	if _, ok := files.files[own]; !ok || len(files.files) != 3 {
		t.Errorf("files are %v, want the plugin's at %s", files.files, own)
	}
	if err := e.Del(context.Background(), request("c1")); err != nil {
		t.Fatal(err)
	}
	if _, ok := files.files[own]; ok {
		t.Error("DEL left the device-info file")
	}
}
