package cni_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/journal"
	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/cni/refusal"
)

func (w *world) Removed(pod cni.PodRef, network, ifName string) {
	w.events = append(w.events, fmt.Sprintf("%s removed %s %s", pod, ifName, network))
}

func (w *world) NotRemoved(pod cni.PodRef, err error) {
	w.events = append(w.events, fmt.Sprintf("%s not removed: %v", pod, err))
}

func (w *world) Missing(pod cni.PodRef, text string) {
	w.events = append(w.events, fmt.Sprintf("%s missing: %s", pod, text))
}

// annotated is the pod as the cluster has it now.
func (w *world) annotated(networks string) cni.Pod {
	w.pod(networks)
	return w.pods["blue/p"]
}

func (w *world) statusNames() []string {
	var out []string
	for _, s := range w.status["blue/p"] {
		out = append(out, s.Name+"@"+s.Interface)
	}
	return out
}

func added(t *testing.T, w *world, e *cni.Engine) {
	t.Helper()
	if _, err := e.Add(context.Background(), request("c1")); err != nil {
		t.Fatal(err)
	}
	w.steps, w.events = nil, nil
}

var noRuntime cni.Runner

func TestPlugFollowsTheAnnotation(t *testing.T) {
	for name, c := range map[string]struct {
		networks, world string
		status          []string
		events          []string
	}{
		"nothing changed":     {"fast,storage@store0,signal", attachedWorld, nil, nil},
		"the same, re-worded": {` fast , storage@store0,blue/signal`, attachedWorld, nil, nil},
		"one less": {"fast,signal", "c1/eth0: exec\nc1/net1: sriov 0000:01:10.0\nc1/net3: ipvlan  198.51.100.7/24\n",
			[]string{"cbr0@eth0", "blue/fast@net1", "blue/signal@net3"}, []string{"blue/p removed store0 blue/storage"}},
		"none": {"", "c1/eth0: exec\n", []string{"cbr0@eth0"},
			[]string{"blue/p removed net1 blue/fast", "blue/p removed store0 blue/storage", "blue/p removed net3 blue/signal"}},
		"one more, at the front": {"storage,fast,storage@store0,signal", attachedWorld + "c1/net2: macvlan  192.0.2.3/29\n",
			[]string{"cbr0@eth0", "blue/storage@net2", "blue/fast@net1", "blue/storage@store0", "blue/signal@net3"},
			[]string{"blue/p added net2 blue/storage"}},
		"another order": {"signal,storage@store0,fast", attachedWorld,
			[]string{"cbr0@eth0", "blue/signal@net3", "blue/storage@store0", "blue/fast@net1"}, nil},
		"replaced under its name": {"fast,vast@store0,signal", strings.Replace(attachedWorld, "store0: macvlan  192.0.2.2/29", "store0: macvlan  203.0.113.2/29", 1),
			[]string{"cbr0@eth0", "blue/fast@net1", "blue/vast@store0", "blue/signal@net3"},
			[]string{"blue/p removed store0 blue/storage", "blue/p added store0 blue/vast"}},
		"other addresses": {`[{"name":"fast"},{"name":"storage","interface":"store0","ips":["192.0.2.5"]},{"name":"signal"}]`,
			strings.Replace(attachedWorld, "192.0.2.2", "192.0.2.5", 1),
			[]string{"cbr0@eth0", "blue/fast@net1", "blue/storage@store0", "blue/signal@net3"},
			[]string{"blue/p removed store0 blue/storage", "blue/p added store0 blue/storage"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := standard(t)
			w.nads["blue/vast"] = cni.Definition{Namespace: "blue", Name: "vast", Config: `{"cniVersion":"1.0.0","type":"macvlan","master":"m0","ipam":{"type":"host-local","subnet":"203.0.113.0/29"}}`}
			e := w.engine()
			added(t, w, e)
			w.status = map[string][]cni.NetworkStatus{}
			if err := e.Plug(context.Background(), w.annotated(c.networks), noRuntime); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(sorted(c.world), w.String()); d != "" {
				t.Error(d)
			}
			if d := cmp.Diff(c.status, w.statusNames()); d != "" {
				t.Errorf("network-status: %s", d)
			}
			if d := cmp.Diff(c.events, w.events); d != "" {
				t.Errorf("events: %s", d)
			}
			steps := len(w.steps)
			if err := e.Plug(context.Background(), w.annotated(c.networks), noRuntime); err != nil || len(w.steps) != steps {
				t.Errorf("the second time it did %v (%v), want nothing", w.steps[steps:], err)
			}
			if err := e.Del(context.Background(), request("c1")); err != nil {
				t.Fatal(err)
			}
			if got := w.String(); got != "" {
				t.Errorf("deleting the pod left\n%s", got)
			}
		})
	}
}

func sorted(world string) string {
	lines := slices.Sorted(strings.Lines(world))
	return strings.Join(lines, "")
}

// TestPlugNamesAreReused: the name of an attachment that went is given again, and
// one that is taken is not.
func TestPlugNamesAreReused(t *testing.T) {
	w := standard(t)
	e := w.engine()
	added(t, w, e)
	for _, step := range []struct{ networks, status string }{
		{"storage@store0,signal", "eth0 store0 net3"},
		{"storage@store0,signal,fast", "eth0 store0 net3 net1"},
		{"signal,fast,storage", "eth0 net3 net1 net2"},
	} {
		if err := e.Plug(context.Background(), w.annotated(step.networks), noRuntime); err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, s := range w.status["blue/p"] {
			names = append(names, s.Interface)
		}
		if got := strings.Join(names, " "); got != step.status {
			t.Errorf("after %q the pod has %s, want %s", step.networks, got, step.status)
		}
	}
}

// TestInvariant4PlugTakesOnlyADeviceThatThePodHoldsAndNoAttachmentHas.
func TestInvariant4PlugTakesOnlyADeviceThatThePodHoldsAndNoAttachmentHas(t *testing.T) {
	w := standard(t)
	w.devices["tendril.dev/vf"] = []string{"0000:01:10.0", "0000:01:10.4"}
	e := w.engine()
	added(t, w, e)
	if err := e.Plug(context.Background(), w.annotated("fast@second,fast,storage@store0,signal"), noRuntime); err != nil {
		t.Fatal(err)
	}
	if got := w.links["c1/second"]; got != "sriov 0000:01:10.4" {
		t.Errorf("the new network got %q, want the second VF", got)
	}
	err := e.Plug(context.Background(), w.annotated("fast@second,fast,storage@store0,signal,fast@third"), noRuntime)
	var refused *refusal.Refusal
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), "tendril.dev/vf") {
		t.Errorf("a third VF: %v, want a refusal that names the resource", err)
	}
}

// TestInvariant9PlugRefusesBeforeAnythingIsTouched, also what it was to detach.
func TestInvariant9PlugRefusesBeforeAnythingIsTouched(t *testing.T) {
	for name, c := range map[string]struct{ networks, want string }{
		"malformed":   {`[{"name":`, "line 1"},
		"unknown":     {"fast,nowhere", "blue/nowhere"},
		"isolated":    {"fast,red/secret", "namespaceIsolation"},
		"name taken":  {`fast,signal@eth0`, `"eth0"`},
		"no capacity": {`[{"name":"fast"},{"name":"storage","mac":"01:00:00:00:00:01","infiniband-guid":"02:00:00:00:00:00:00:01"}]`, "does not declare"},
	} {
		t.Run(name, func(t *testing.T) {
			w := standard(t)
			w.nads["red/secret"] = cni.Definition{Namespace: "red", Name: "secret", Config: w.nads["blue/storage"].Config}
			e := w.engine()
			e.Node = func() netconf.Node { return netconf.Node{Isolation: true} }
			added(t, w, e)
			err := e.Plug(context.Background(), w.annotated(c.networks), noRuntime)
			var refused *refusal.Refusal
			if !errors.As(err, &refused) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error = %v, want a refusal with %q", err, c.want)
			}
			if d := cmp.Diff(attachedWorld, w.String()); d != "" {
				t.Error(d)
			}
			if len(w.events) != 1 || !strings.Contains(w.events[0], "refused") || !strings.Contains(w.events[0], c.want) {
				t.Errorf("events = %v, want the refusal", w.events)
			}
		})
	}
}

// TestFailedPlugTakesItsOwnBackAndLeavesTheRest.
func TestFailedPlugTakesItsOwnBackAndLeavesTheRest(t *testing.T) {
	w := standard(t)
	e := w.engine()
	added(t, w, e)
	w.fail["attach late"] = errors.New("kernel says no")
	pod := w.annotated("fast,storage@store0,signal,storage@early,storage@late")
	if err := e.Plug(context.Background(), pod, noRuntime); err == nil || !strings.Contains(err.Error(), "kernel says no") {
		t.Fatalf("error = %v, want the driver's", err)
	}
	if d := cmp.Diff(attachedWorld, w.String()); d != "" {
		t.Error(d)
	}
	delete(w.fail, "attach late")
	if err := e.Plug(context.Background(), pod, noRuntime); err != nil {
		t.Fatal(err)
	}
	if len(w.links) != 6 {
		t.Errorf("the next time the pod has\n%s", w)
	}
}

// TestStatusSaysWhatAFailedPlugLeft: a network that was to be replaced is gone.
func TestStatusSaysWhatAFailedPlugLeft(t *testing.T) {
	w := standard(t)
	e := w.engine()
	added(t, w, e)
	w.fail["attach store0"] = errors.New("kernel says no")
	pod := w.annotated(`[{"name":"fast"},{"name":"storage","interface":"store0","ips":["192.0.2.5"]},{"name":"signal"}]`)
	if err := e.Plug(context.Background(), pod, noRuntime); err == nil {
		t.Error("no error")
	}
	if d := cmp.Diff([]string{"cbr0@eth0", "blue/fast@net1", "blue/signal@net3"}, w.statusNames()); d != "" {
		t.Errorf("network-status: %s", d)
	}
}

// shell is a delegate that runs the one plugin of a network.
type shell struct{}

func (shell) Add(ctx context.Context, run cni.Runner, a cni.Attachment) (json.RawMessage, error) {
	_, err := run(ctx, a.Config.Plugins[0].Type, nil, []string{"CNI_COMMAND=ADD"})
	return json.RawMessage(`{"cniVersion":"1.0.0"}`), err
}

func (shell) Del(ctx context.Context, run cni.Runner, a cni.Attachment, _ json.RawMessage) error {
	_, err := run(ctx, a.Config.Plugins[0].Type, nil, []string{"CNI_COMMAND=DEL"})
	return err
}

// TestInvariant2PlugOfAPluginThatIsNotThereIsOwedNoDEL: else the pod could not be
// deleted until somebody installs the plugin.
func TestInvariant2PlugOfAPluginThatIsNotThereIsOwedNoDEL(t *testing.T) {
	const conf = `{"cniVersion":"1.0.0","name":"other","type":"other"}`
	w := standard(t)
	w.nads["blue/other"] = cni.Definition{Namespace: "blue", Name: "other", Config: conf}
	e := w.engine()
	e.Delegate = shell{}
	added(t, w, e)
	r := request("c1")
	r.Run = func(_ context.Context, plugin string, _ []byte, _ []string) ([]byte, error) {
		if plugin == "other" {
			return nil, &cni.NoPlugin{Plugin: plugin, Why: "it is not there"}
		}
		return nil, nil
	}
	err := e.Plug(context.Background(), w.annotated("fast,storage@store0,signal,other"), r.Run)
	if err == nil || !strings.Contains(err.Error(), "it is not there") || strings.Contains(err.Error(), "undo") {
		t.Errorf("Plug: %v, want that the plugin is not there, and no failed undo", err)
	}
	network, err := netconf.ParseNetwork("test", []byte(conf), "")
	if err != nil {
		t.Fatal(err)
	}
	one := r
	one.IfName = "hot0"
	if _, err := e.AttachOne(context.Background(), one, network, netconf.Element{}); err == nil || strings.Contains(err.Error(), "undo") {
		t.Errorf("AttachOne: %v, want that the plugin is not there, and no failed undo", err)
	}
	if err := e.Del(context.Background(), r); err != nil {
		t.Errorf("the pod cannot be deleted: %v", err)
	}
}

func TestPlugOfAForeignNetworkNeedsARuntime(t *testing.T) {
	w := standard(t)
	w.nads["blue/other"] = cni.Definition{Namespace: "blue", Name: "other", Config: `{"cniVersion":"1.0.0","type":"other"}`}
	e := w.engine()
	added(t, w, e)
	pod := w.annotated("fast,storage@store0,signal,other")
	if err := e.Plug(context.Background(), pod, request("c1").Run); err != nil {
		t.Fatal(err)
	}
	if got := w.links["c1/net4"]; got != "exec" {
		t.Errorf("net4 is %q, want the plugin's", got)
	}
	before := w.String()
	if err := e.Plug(context.Background(), w.annotated("fast"), noRuntime); !cni.NeedsRuntime(err) || w.String() != before {
		t.Errorf("error = %v, want that it needs a runtime, and nothing done; the pod has\n%s", err, w)
	}
	if err := e.Plug(context.Background(), w.annotated("fast"), request("c1").Run); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff("c1/eth0: exec\nc1/net1: sriov 0000:01:10.0\n", w.String()); d != "" {
		t.Error(d)
	}
}

// TestInvariant3PlugCrashAnywhere stops the daemon at every journal step and every
// driver call of a Plug that detaches, attaches and replaces. The pod then has
// what it had or what it asks for, in whole networks, and never loses those that
// it keeps.
func TestInvariant3PlugCrashAnywhere(t *testing.T) {
	const networks = "fast,storage@more,signal@sig"
	probe := standard(t)
	e := probe.engine()
	added(t, probe, e)
	if err := e.Plug(context.Background(), probe.annotated(networks), noRuntime); err != nil {
		t.Fatal(err)
	}
	points := append(slices.Clone(probe.steps), "before plugging", "after plugging", "before plugged", "after plugged", "before detached", "after detached")
	for _, point := range points {
		t.Run(point, func(t *testing.T) { plugCrash(t, point, networks, probe.String()) })
	}
}

func plugCrash(t *testing.T, point, networks, after string) {
	w := standard(t)
	path := filepath.Join(t.TempDir(), "journal.db")
	e, j := w.start(path, func(at string) { _ = w.point(at) })
	added(t, w, e)
	w.crash = point
	func() {
		defer func() {
			if _, ok := recover().(crashed); !ok {
				t.Fatalf("point %q was never reached", point)
			}
		}()
		_ = e.Plug(context.Background(), w.annotated(networks), noRuntime)
	}()
	j.Close()
	w.crash = ""
	e, j = w.start(path, nil)
	defer j.Close()
	for _, kept := range []string{"c1/eth0", "c1/net1"} {
		if w.links[kept] == "" {
			t.Errorf("the crash took %s from a running pod; it has\n%s", kept, w)
		}
	}
	// What was being attached is undone at once; what was being detached may still
	// be in the journal: the next Plug, or DEL, does it again.
	recorded := recordedNames(t, j)
	for link := range w.links {
		if !slices.Contains(recorded, link) {
			t.Errorf("the pod has %s, of which the journal knows nothing", link)
		}
	}
	if err := e.Plug(context.Background(), w.annotated(networks), noRuntime); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(hosts.ReplaceAllString(after, "$1"), hosts.ReplaceAllString(w.String(), "$1")); d != "" {
		t.Error(d)
	}
	if err := e.Del(context.Background(), request("c1")); err != nil || w.String() != "" {
		t.Errorf("deleting the pod left (%v)\n%s", err, w)
	}
}

// hosts are the addresses of the subnet from which some come by chance: after a
// crash the next free one is taken.
var hosts = regexp.MustCompile(`(192\.0\.2\.)\d+`)

func recordedNames(t *testing.T, j *journal.Journal) []string {
	t.Helper()
	var out []string
	err := j.View(func(tx *journal.Tx) error {
		for _, e := range tx.All() {
			out = append(out, e.Container+"/"+e.IfName)
			if strings.Contains(string(e.Data), `"phase":"plugging"`) {
				t.Errorf("%s is still being attached after the recovery", e.IfName)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// auditor audits the pods of w; what is lost is what w has no link for.
func auditor(w *world, e *cni.Engine) (u *cni.Auditor, owed *[]cni.Request) {
	owed = new([]cni.Request)
	return &cni.Auditor{Engine: e,
		Lost: func(_ *os.File, r cni.Record) (bool, error) {
			_, there := w.links[r.Attachment.ContainerID+"/"+r.Attachment.IfName]
			return !there, nil
		},
		Owed: func(r cni.Request) error { *owed = append(*owed, r); return nil },
	}, owed
}

func (w *world) list() []cni.Pod { return slices.Collect(maps.Values(w.pods)) }

func TestAuditRepairsALostInterfaceWithWhatItHad(t *testing.T) {
	w := standard(t)
	e := w.engine()
	added(t, w, e)
	delete(w.links, "c1/store0")
	delete(w.links, "c1/net1")
	u, _ := auditor(w, e)
	for i := range 2 {
		if unknown, err := u.Audit(context.Background(), w.list(), noRuntime); err != nil || len(unknown) != 0 {
			t.Fatalf("unknown %v (%v), want none", unknown, err)
		}
		if d := cmp.Diff(attachedWorld, w.String()); d != "" {
			t.Error(d)
		}
		if len(w.events) != 2 || !strings.Contains(w.events[0]+w.events[1], "interface store0 of network blue/storage was lost; it is made anew") {
			t.Errorf("round %d: events = %v, want the two interfaces, once", i, w.events)
		}
	}
}

// TestAuditRepairsOneInterfaceAlthoughAnotherCannotBe: each has its own cause.
func TestAuditRepairsOneInterfaceAlthoughAnotherCannotBe(t *testing.T) {
	w := standard(t)
	e := w.engine()
	added(t, w, e)
	delete(w.links, "c1/store0")
	delete(w.links, "c1/net3")
	w.fail["prior store0"] = errors.New("its master is gone")
	u, _ := auditor(w, e)
	if _, err := u.Audit(context.Background(), w.list(), noRuntime); err == nil || !strings.Contains(err.Error(), "its master is gone") {
		t.Errorf("%v; want why store0 is not back", err)
	}
	if w.links["c1/net3"] == "" || len(w.links) != 3 {
		t.Errorf("the pod has\n%s", w)
	}
}

func TestAuditReportsWhatItCannotRepair(t *testing.T) {
	w := standard(t)
	e := w.engine()
	added(t, w, e)
	delete(w.links, "c1/store0")
	w.fail["attach store0"] = errors.New("kernel says no")
	u, _ := auditor(w, e)
	if _, err := u.Audit(context.Background(), w.list(), noRuntime); err == nil {
		t.Error("no error")
	}
	if len(w.events) != 1 || !strings.Contains(w.events[0], "could not be made anew: ") || !strings.Contains(w.events[0], "kernel says no") {
		t.Errorf("events = %v, want one that says why", w.events)
	}
	delete(w.fail, "attach store0")
	if _, err := u.Audit(context.Background(), w.list(), noRuntime); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(hosts.ReplaceAllString(attachedWorld, "$1"), hosts.ReplaceAllString(w.String(), "$1")); d != "" {
		t.Error(d)
	}
}

// TestInvariant1LostDefaultNetworkIsRepairedInTheEnd: no annotation asks for it, so
// that its record is all that brings it back, whatever becomes of a first try.
func TestInvariant1LostDefaultNetworkIsRepairedInTheEnd(t *testing.T) {
	for _, point := range []string{"", "before repairing", "after repairing", "attach eth0", "attached eth0", "before plugged", "after plugged"} {
		t.Run("died "+point, func(t *testing.T) {
			w := standard(t)
			w.defConf = `{"cniVersion":"1.0.0","name":"cbr0","type":"macvlan","ipam":{"type":"host-local","subnet":"203.0.113.0/29"}}`
			path := filepath.Join(t.TempDir(), "journal.db")
			e, j := w.start(path, func(at string) { _ = w.point(at) })
			added(t, w, e)
			before := w.String()
			delete(w.links, "c1/eth0")
			if w.crash = point; point == "" {
				w.fail["attach eth0"] = errors.New("kernel says no")
			}
			func() {
				defer func() {
					if _, ok := recover().(crashed); ok != (point != "") {
						t.Errorf("point %q was never reached", point)
					}
				}()
				u, _ := auditor(w, e)
				if _, err := u.Audit(context.Background(), w.list(), noRuntime); err == nil {
					t.Error("no error")
				}
			}()
			if err := j.Close(); err != nil {
				t.Fatal(err)
			}
			w.crash, w.fail = "", map[string]error{}
			e, j = w.start(path, nil)
			defer j.Close()
			u, _ := auditor(w, e)
			if _, err := u.Audit(context.Background(), w.list(), noRuntime); err != nil {
				t.Error(err)
			}
			if d := cmp.Diff(before, w.String()); d != "" {
				t.Error(d)
			}
			if err := e.Check(context.Background(), request("c1")); err != nil {
				t.Error(err)
			}
			if err := e.Del(context.Background(), request("c1")); err != nil || w.String() != "" {
				t.Errorf("deleting the pod left (%v)\n%s", err, w)
			}
		})
	}
}

func TestAuditPlugsWhatTheAnnotationAsksFor(t *testing.T) {
	w := standard(t)
	e := w.engine()
	added(t, w, e)
	w.pod("fast,signal")
	u, _ := auditor(w, e)
	if _, err := u.Audit(context.Background(), w.list(), noRuntime); err != nil {
		t.Fatal(err)
	}
	if w.links["c1/store0"] != "" || len(w.links) != 3 {
		t.Errorf("the pod has\n%s", w)
	}
}

// TestAuditDetachesOnlyWhatNobodyWillDelete: pod and namespace have to be gone,
// since otherwise the runtime's own DEL is to come.
func TestAuditDetachesOnlyWhatNobodyWillDelete(t *testing.T) {
	for name, c := range map[string]struct {
		podGone, netnsGone bool
		want               string
		owed               int
	}{
		"both there":     {false, false, attachedWorld, 0},
		"pod gone":       {true, false, attachedWorld, 0},
		"namespace gone": {false, true, attachedWorld, 0},
		"both gone":      {true, true, "c1/eth0: exec\n", 1},
	} {
		t.Run(name, func(t *testing.T) {
			w := standard(t)
			e := w.engine()
			added(t, w, e)
			w.gone = c.netnsGone
			if c.podGone {
				w.pods = map[string]cni.Pod{}
			}
			u, owed := auditor(w, e)
			if _, err := u.Audit(context.Background(), w.list(), noRuntime); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, w.String()); d != "" {
				t.Error(d)
			}
			if len(*owed) != c.owed {
				t.Fatalf("owed %v, want %d calls", *owed, c.owed)
			}
			for _, r := range *owed {
				r.Run = request("c1").Run
				if err := e.Redeem(context.Background(), r); err != nil || w.String() != "" {
					t.Errorf("with a runtime there is left (%v)\n%s", err, w)
				}
			}
		})
	}
}

// TestAuditFindsPodsThatTendrilDoesNotKnow: they start now, or run single-homed.
func TestAuditFindsPodsThatTendrilDoesNotKnow(t *testing.T) {
	w := standard(t)
	e := w.engine()
	added(t, w, e)
	w.pods["blue/alone"] = cni.Pod{PodRef: cni.PodRef{Namespace: "blue", Name: "alone", UID: "u2"}, Annotations: map[string]string{"k8s.v1.cni.cncf.io/networks": "fast"}}
	w.pods["blue/plain"] = cni.Pod{PodRef: cni.PodRef{Namespace: "blue", Name: "plain", UID: "u3"}}
	u, _ := auditor(w, e)
	unknown, err := u.Audit(context.Background(), w.list(), noRuntime)
	if err != nil || len(unknown) != 1 || unknown[0].Name != "alone" {
		t.Errorf("unknown %v (%v), want alone", unknown, err)
	}
}

// TestRedeemWithoutARuntimeDoesWhatNeedsNone and says that something is left.
func TestRedeemWithoutARuntimeDoesWhatNeedsNone(t *testing.T) {
	w := standard(t)
	e := w.engine()
	added(t, w, e)
	r := request("c1")
	r.Run, r.Netns = nil, nil
	for range 2 {
		if err := e.Redeem(context.Background(), r); !cni.NeedsRuntime(err) {
			t.Errorf("error = %v, want that a runtime is needed", err)
		}
		if d := cmp.Diff("c1/eth0: exec\n", w.String()); d != "" {
			t.Error(d)
		}
	}
	r.Run = request("c1").Run
	for range 2 {
		if err := e.Redeem(context.Background(), r); err != nil {
			t.Error(err)
		}
	}
	r.Run = nil
	if err := e.Redeem(context.Background(), r); err != nil {
		t.Errorf("what is done needs a runtime: %v", err)
	}
	other := request("older-than-tendril")
	other.Run = nil
	if err := e.Redeem(context.Background(), other); !cni.NeedsRuntime(err) {
		t.Errorf("error = %v for a container of the default network's own, want that a runtime is needed", err)
	}
}
