package cni_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/journal"
	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/cni/refusal"
)

// world is a machine that prints itself: links in pods, devices on the host.
// It stands in for kernel and API server so that every fault can be had; the
// kernel and lab tiers run the same engine on the real ones.
type world struct {
	t       *testing.T
	mu      sync.Mutex
	links   map[string]string // "container/ifname" -> kind and addresses
	pods    map[string]cni.Pod
	nads    map[string]cni.Definition
	devices map[string][]string
	// fail names operations that fail: "attach net1", "detach net1", "prior net1".
	fail map[string]error
	// crash stops the process at a point: it panics with crashed.
	crash   string
	steps   []string
	status  map[string][]cni.NetworkStatus
	events  []string
	gone    bool // the namespace is gone
	inode   uint64
	defConf string
}

type crashed struct{ at string }

func newWorld(t *testing.T) *world {
	return &world{t: t, inode: 42, links: map[string]string{}, pods: map[string]cni.Pod{}, nads: map[string]cni.Definition{},
		fail: map[string]error{}, status: map[string][]cni.NetworkStatus{},
		defConf: `{"cniVersion":"1.0.0","name":"cbr0","type":"bridge"}`}
}

func (w *world) point(p string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.steps = append(w.steps, p)
	if p == w.crash {
		panic(crashed{p})
	}
	return w.fail[p]
}

func (w *world) set(a cni.Attachment) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	k := a.ContainerID + "/" + a.IfName
	if _, ok := w.links[k]; ok {
		return fs.ErrExist
	}
	var addrs []string
	for _, ad := range a.Addresses {
		addrs = append(addrs, ad.Prefix.String())
	}
	w.links[k] = strings.TrimSpace(a.Kind + " " + a.Device + " " + strings.Join(addrs, ","))
	return nil
}

func (w *world) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(w.links)) {
		fmt.Fprintf(&b, "%s: %s\n", k, w.links[k])
	}
	return b.String()
}

type driver struct{ *world }

func (d driver) Prior(_ context.Context, a cni.Attachment) (json.RawMessage, error) {
	return json.RawMessage(`{"was":"there"}`), d.point("prior " + a.IfName)
}

func (d driver) Attach(_ context.Context, _ *os.File, r cni.Record) (cni.Link, error) {
	a := r.Attachment
	if err := d.point("attach " + a.IfName); err != nil {
		return cni.Link{}, err
	}
	if err := d.set(a); err != nil {
		return cni.Link{}, err
	}
	return cni.Link{Name: a.IfName, Index: 7, MAC: "02:00:00:00:00:07", MTU: 1500, PCI: a.Device}, d.point("attached " + a.IfName)
}

func (d driver) Detach(_ context.Context, _ *os.File, r cni.Record) error {
	return d.remove(r.Attachment)
}

func (w *world) remove(a cni.Attachment) error {
	if err := w.point("detach " + a.IfName); err != nil {
		return err
	}
	w.mu.Lock()
	delete(w.links, a.ContainerID+"/"+a.IfName)
	w.mu.Unlock()
	return w.point("detached " + a.IfName)
}

type delegate struct{ *world }

func (d delegate) Add(_ context.Context, _ cni.Runner, a cni.Attachment) (json.RawMessage, error) {
	if err := d.point("attach " + a.IfName); err != nil {
		return nil, err
	}
	if err := d.set(a); err != nil {
		return nil, err
	}
	return json.RawMessage(`{"cniVersion":"1.0.0","interfaces":[{"name":"cni0"},{"name":"` + a.IfName + `","sandbox":"/ns","mac":"02:00:00:00:00:01"}],
		"ips":[{"address":"10.244.1.5/24","gateway":"10.244.1.1","interface":1}],"routes":[{"dst":"0.0.0.0/0","gw":"10.244.1.1"}]}`), d.point("attached " + a.IfName)
}

func (d delegate) Del(_ context.Context, _ cni.Runner, a cni.Attachment, _ json.RawMessage) error {
	return d.remove(a)
}

func (w *world) Pod(_ context.Context, ns, name, _ string) (cni.Pod, error) {
	if p, ok := w.pods[ns+"/"+name]; ok {
		return p, nil
	}
	return cni.Pod{}, context.DeadlineExceeded
}

func (w *world) Definition(_ context.Context, ns, name string) (cni.Definition, error) {
	if d, ok := w.nads[ns+"/"+name]; ok {
		return d, nil
	}
	return cni.Definition{}, refusal.New("", "networks", ns+"/"+name, "a NetworkAttachmentDefinition that exists")
}

func (w *world) Devices(context.Context, cni.PodRef) (map[string][]string, error) {
	return w.devices, nil
}

func (w *world) Open(string) (*os.File, error) {
	if w.gone {
		return nil, fs.ErrNotExist
	}
	return os.Open(os.DevNull)
}

func (w *world) Identify(*os.File) (cni.Netns, error) {
	return cni.Netns{Device: 4, Inode: w.inode}, nil
}

func (w *world) Publish(pod cni.PodRef, s []cni.NetworkStatus) { w.status[pod.String()] = s }

func (w *world) Added(pod cni.PodRef, made []cni.Made) {
	for _, m := range made {
		w.events = append(w.events, fmt.Sprintf("%s added %s %s", pod, m.IfName, m.Network))
	}
}

func (w *world) Refused(pod cni.PodRef, err error) {
	w.events = append(w.events, fmt.Sprintf("%s refused: %v", pod, err))
}

// start is the daemon's start on this machine: the journal at path, recovery.
func (w *world) start(path string, hook func(string)) (*cni.Engine, *journal.Journal) {
	w.t.Helper()
	d := driver{w}
	return w.startWith(path, hook, cni.Options{Drivers: map[string]cni.Driver{cni.KindMacvlan: d, cni.KindIpvlan: d, cni.KindSriov: d}})
}

// startWith is start with the parts of o; what o leaves out is the world's.
func (w *world) startWith(path string, hook func(string), o cni.Options) (*cni.Engine, *journal.Journal) {
	w.t.Helper()
	var err error
	o.Log = slog.New(slog.DiscardHandler)
	if o.Journal, err = journal.Open(journal.Options{Path: path, Log: o.Log, OnStep: hook}); err != nil {
		w.t.Fatal(err)
	}
	if o.Delegate == nil {
		o.Delegate = delegate{w}
	}
	if o.BootID == "" {
		o.BootID = "boot"
	}
	o.Cluster, o.Devices, o.Namespaces, o.Report = w, w, w, w
	o.Ready = func() error { return nil }
	o.Default = func() (netconf.Network, error) { return netconf.ParseNetwork("default", []byte(w.defConf), "") }
	e := cni.New(o)
	if err := e.Recover(context.Background()); err != nil {
		w.t.Fatal(err)
	}
	return e, o.Journal
}

func (w *world) engine() *cni.Engine {
	e, j := w.start(filepath.Join(w.t.TempDir(), "journal.db"), nil)
	w.t.Cleanup(func() { j.Close() })
	return e
}

// standard is a pod with a VF, a macvlan and an ipvlan.
func standard(t *testing.T) *world {
	w := newWorld(t)
	hostLocal := `"ipam":{"type":"host-local","subnet":"192.0.2.0/29"}`
	w.nads["blue/fast"] = cni.Definition{Namespace: "blue", Name: "fast", Resource: "tendril.dev/vf", Config: `{"cniVersion":"1.0.0","type":"sriov","vlan":42}`}
	w.nads["blue/storage"] = cni.Definition{Namespace: "blue", Name: "storage", Config: `{"cniVersion":"1.0.0","type":"macvlan","master":"m0",` + hostLocal + `}`}
	w.nads["blue/signal"] = cni.Definition{Namespace: "blue", Name: "signal", Config: `{"cniVersion":"1.0.0","type":"ipvlan","master":"m1","ipam":{"type":"static","addresses":[{"address":"198.51.100.7/24"}]}}`}
	w.pod("fast,storage@store0,signal")
	w.devices = map[string][]string{"tendril.dev/vf": {"0000:01:10.0"}}
	return w
}

func (w *world) pod(networks string) {
	w.pods["blue/p"] = cni.Pod{PodRef: cni.PodRef{Namespace: "blue", Name: "p", UID: "u1"}, Annotations: map[string]string{"k8s.v1.cni.cncf.io/networks": networks}}
}

func request(container string) cni.Request {
	return cni.Request{ContainerID: container, IfName: "eth0", NetnsPath: "/ns", Netns: os.Stdin, Config: []byte(`{"cniVersion":"1.0.0"}`),
		Args: map[string]string{"K8S_POD_NAMESPACE": "blue", "K8S_POD_NAME": "p", "K8S_POD_UID": "u1"},
		Run:  func(context.Context, string, []byte, []string) ([]byte, error) { return nil, nil }}
}

const attachedWorld = `c1/eth0: exec
c1/net1: sriov 0000:01:10.0
c1/net3: ipvlan  198.51.100.7/24
c1/store0: macvlan  192.0.2.2/29
`

func TestAddAndDel(t *testing.T) {
	w := standard(t)
	e := w.engine()
	res, err := e.Add(context.Background(), request("c1"))
	if err != nil {
		t.Fatal(err)
	}
	if len(res.IPs) != 1 || res.IPs[0].Address.String() != "10.244.1.5/24" {
		t.Errorf("result is not that of the default network: %v", res)
	}
	if d := cmp.Diff(attachedWorld, w.String()); d != "" {
		t.Error(d)
	}
	if err := e.Check(context.Background(), request("c1")); err != nil {
		t.Error(err)
	}
	var names []string
	for _, s := range w.status["blue/p"] {
		names = append(names, s.Name+"@"+s.Interface+" "+strings.Join(s.IPs, ","))
	}
	if d := cmp.Diff([]string{"cbr0@eth0 10.244.1.5", "blue/fast@net1 ", "blue/storage@store0 192.0.2.2", "blue/signal@net3 198.51.100.7"}, names); d != "" {
		t.Error(d)
	}
	for range 2 { // a second DEL succeeds too
		if err := e.Del(context.Background(), request("c1")); err != nil {
			t.Fatal(err)
		}
	}
	if got := w.String(); got != "" {
		t.Errorf("left over:\n%s", got)
	}
}

func TestInvariant1DaemonNeverAnswersForPartOfThePod(t *testing.T) {
	for _, ifName := range []string{"eth0", "net1", "store0", "net3"} {
		t.Run(ifName, func(t *testing.T) {
			w := standard(t)
			w.fail["attach "+ifName] = errors.New("kernel says no")
			e := w.engine()
			if _, err := e.Add(context.Background(), request("c1")); err == nil || !strings.Contains(err.Error(), "kernel says no") {
				t.Errorf("error = %v, want the driver's", err)
			}
			if got := w.String(); got != "" {
				t.Errorf("a failed ADD left\n%s", got)
			}
			if len(w.events) != 1 || !strings.Contains(w.events[0], "refused") {
				t.Errorf("events = %v, want one refusal", w.events)
			}
		})
	}
}

// TestSecondAddOfASandboxLeavesTheFirstAlone: a runtime may call for eth0 and for
// eth1, and the pod's networks have their names once.
func TestSecondAddOfASandboxLeavesTheFirstAlone(t *testing.T) {
	w := standard(t)
	e := w.engine()
	added(t, w, e)
	second := request("c1")
	second.IfName = "eth1"
	_, err := e.Add(context.Background(), second)
	var refused *refusal.Refusal
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), "net1") || !strings.Contains(err.Error(), "eth0") {
		t.Errorf("error = %v, want a refusal of net1, which eth0's ADD has made", err)
	}
	if d := cmp.Diff(attachedWorld, w.String()); d != "" {
		t.Error(d)
	}
	if err := e.Check(context.Background(), request("c1")); err != nil {
		t.Error(err)
	}
}

func TestInvariant2FailedDetachKeepsItsRecordAlone(t *testing.T) {
	w := standard(t)
	e := w.engine()
	if _, err := e.Add(context.Background(), request("c1")); err != nil {
		t.Fatal(err)
	}
	w.fail["detach store0"] = errors.New("busy")
	if err := e.Del(context.Background(), request("c1")); err == nil || !strings.Contains(err.Error(), "busy") {
		t.Fatalf("error = %v, want busy", err)
	}
	if d := cmp.Diff("c1/store0: macvlan  192.0.2.2/29\n", w.String()); d != "" {
		t.Errorf("DEL did not try everything: %s", d)
	}
	w.steps = nil
	delete(w.fail, "detach store0")
	if err := e.Del(context.Background(), request("c1")); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"detach store0", "detached store0"}, w.steps); d != "" {
		t.Errorf("the second DEL repeated what was done: %s", d)
	}
}

// TestInvariant3CrashAnywhere stops the daemon at every journal step and every
// driver call of ADD, failed ADD and DEL, starts it again, lets the runtime send
// its DEL, and wants an empty machine and a pod that can be added again.
func TestInvariant3CrashAnywhere(t *testing.T) {
	w := standard(t)
	e := w.engine()
	if _, err := e.Add(context.Background(), request("c1")); err != nil {
		t.Fatal(err)
	}
	if err := e.Del(context.Background(), request("c1")); err != nil {
		t.Fatal(err)
	}
	points := append(w.steps, "before intent", "after intent", "before attached", "after attached", "before detached", "after detached")
	for _, p := range points {
		for _, rebooted := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s reboot=%v", p, rebooted), func(t *testing.T) { crashAt(t, p, rebooted) })
		}
	}
}

func crashAt(t *testing.T, p string, netnsGone bool) {
	w := standard(t)
	path := filepath.Join(t.TempDir(), "journal.db")
	hook := func(at string) { _ = w.point(at) }
	e, j := w.start(path, hook)
	w.crash = p
	died := func() (died bool) {
		defer func() {
			if r := recover(); r != nil {
				if _, ok := r.(crashed); !ok {
					panic(r)
				}
				died = true
			}
		}()
		if _, err := e.Add(context.Background(), request("c1")); err != nil {
			t.Fatal(err)
		}
		if err := e.Del(context.Background(), request("c1")); err != nil {
			t.Fatal(err)
		}
		return false
	}()
	if !died {
		t.Fatalf("point %q was never reached", p)
	}
	j.Close()
	w.crash, w.gone = "", netnsGone
	e, j = w.start(path, nil)
	defer j.Close()
	if err := e.Del(context.Background(), request("c1")); err != nil {
		t.Fatal(err)
	}
	if got := w.String(); got != "" {
		t.Fatalf("left over:\n%s", got)
	}
	_ = j.View(func(tx *journal.Tx) error {
		for _, b := range []string{journal.Devices} {
			_ = tx.Bucket(b).ForEach(func(k, v []byte) error {
				t.Errorf("%s still held: %s by %s", b, k, v)
				return nil
			})
		}
		return nil
	})
	w.gone = false
	if _, err := e.Add(context.Background(), request("c1")); err != nil {
		t.Fatalf("the pod cannot be added again: %v", err)
	}
	if d := cmp.Diff(attachedWorld, strings.ReplaceAll(w.String(), "192.0.2.3", "192.0.2.2")); d != "" {
		t.Error(d)
	}
}

func TestInvariant4OneOwnerPerVF(t *testing.T) {
	w := standard(t)
	e := w.engine()
	if _, err := e.Add(context.Background(), request("c1")); err != nil {
		t.Fatal(err)
	}
	_, err := e.Add(context.Background(), request("c2"))
	var inUse *cni.InUse
	if !errors.As(err, &inUse) || !strings.Contains(inUse.Holder, "container c1") {
		t.Fatalf("error = %v, want the holder's name", err)
	}
	if got := cni.Wire(err).Code; got != 11 {
		t.Errorf("code %d, want 11: the VF is free once the old sandbox is deleted", got)
	}
	if d := cmp.Diff(attachedWorld, w.String()); d != "" {
		t.Errorf("the refused ADD touched something: %s", d)
	}
	if err := e.Del(context.Background(), request("c1")); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Add(context.Background(), request("c2")); err != nil {
		t.Error(err)
	}
}

func TestInvariant9RefusalsNameObjectFieldValueAndAllowed(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*world)
		want   []string
	}{
		"malformed annotation": {func(w *world) { w.pod(`[{"name": "fast"`) }, []string{"blue/p", "networks"}},
		"unknown network":      {func(w *world) { w.pod("nowhere") }, []string{"blue/nowhere", "exists"}},
		"bad vlan": {func(w *world) {
			w.nads["blue/fast"] = cni.Definition{Namespace: "blue", Name: "fast", Resource: "tendril.dev/vf", Config: `{"type":"sriov","vlan":5000}`}
			w.fail["prior net1"] = refusal.New(`NetworkAttachmentDefinition "blue/fast"`, "vlan", 5000, "0..4094")
		}, []string{"blue/fast", "vlan", "5000", "0..4094"}},
		"name taken":     {func(w *world) { w.pod("storage@x,signal@x") }, []string{"networks", "interface", `"x"`, "element 0"}},
		"no device left": {func(w *world) { w.devices = nil }, []string{"tendril.dev/vf", "value 0", "at least 1"}},
		"range exhausted": {func(w *world) {
			w.nads["blue/storage"] = cni.Definition{Namespace: "blue", Name: "storage", Config: `{"type":"macvlan","ipam":{"type":"host-local","subnet":"192.0.2.0/30"}}`}
			w.pod("storage,storage")
		}, []string{"blue/storage", "192.0.2.1-192.0.2.2", "1 of 1"}},
		"capability nobody serves": {func(w *world) {
			w.pod(`[{"name":"storage","bandwidth":{"ingressRate":1000,"ingressBurst":1000}}]`)
		}, []string{"bandwidth", "blue/storage", "capability"}},
		"mac for ipvlan": {func(w *world) { w.pod(`[{"name":"signal","mac":"02:00:00:00:00:01"}]`) }, []string{"mac", "blue/signal"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := standard(t)
			c.change(w)
			_, err := w.engine().Add(context.Background(), request("c1"))
			if err == nil {
				t.Fatal("accepted")
			}
			for _, part := range c.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("error does not say %q: %v", part, err)
				}
			}
			if w.String() != "" {
				t.Errorf("left over:\n%s", w)
			}
			if len(w.events) != 1 || !strings.Contains(w.events[0], err.Error()) {
				t.Errorf("the pod's event does not carry the error: %v", w.events)
			}
		})
	}
}

func TestGCDetachesWhatTheRuntimeDoesNotList(t *testing.T) {
	w := standard(t)
	e := w.engine()
	if _, err := e.Add(context.Background(), request("c1")); err != nil {
		t.Fatal(err)
	}
	gc := func(conf string) error {
		r := request("")
		r.Config = []byte(conf)
		return e.GC(context.Background(), r)
	}
	if err := gc(`{}`); err == nil {
		t.Error("GC without a list must not detach anything")
	}
	if err := gc(`{"cni.dev/valid-attachments":[{"containerID":"c1","ifname":"eth0"}]}`); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(attachedWorld, w.String()); d != "" {
		t.Fatal(d)
	}
	// What libcni makes of a runtime's empty list.
	if err := gc(`{"cni.dev/valid-attachments":null,"cni.dev/attachments":null}`); err != nil {
		t.Fatal(err)
	}
	if w.String() != "" {
		t.Errorf("left over:\n%s", w)
	}
}

func TestRebootDropsWhatDiedWithTheKernel(t *testing.T) {
	w := standard(t)
	path := filepath.Join(t.TempDir(), "journal.db")
	e, j := w.start(path, nil)
	if _, err := e.Add(context.Background(), request("c1")); err != nil {
		t.Fatal(err)
	}
	if err := j.Update("test", func(tx *journal.Tx) error { return tx.SetBoot("earlier") }); err != nil {
		t.Fatal(err)
	}
	j.Close()
	w.steps = nil
	e, j = w.start(path, nil)
	defer j.Close()
	if err := e.Del(context.Background(), request("c1")); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"detach eth0", "detached eth0"}, w.steps); d != "" {
		t.Errorf("after a reboot only the foreign plugin is owed a DEL: %s", d)
	}
}

// TestInvariant8TwoTransactionsAndNoExecForNativeKinds: one transaction of
// intent, one of completion, one for DEL, and no plugin executable at all when
// the default network is native too.
func TestInvariant8TwoTransactionsAndNoExecForNativeKinds(t *testing.T) {
	w := standard(t)
	w.defConf = `{"cniVersion":"1.0.0","name":"cbr0","type":"macvlan","ipam":{"type":"host-local","subnet":"203.0.113.0/29"}}`
	var commits []string
	e, j := w.start(filepath.Join(t.TempDir(), "journal.db"), func(p string) {
		if step, ok := strings.CutPrefix(p, "after "); ok {
			commits = append(commits, step)
		}
	})
	defer j.Close()
	commits = nil
	r := request("c1")
	r.Run = func(_ context.Context, plugin string, _ []byte, _ []string) ([]byte, error) {
		t.Errorf("plugin %s was run", plugin)
		return nil, nil
	}
	if _, err := e.Add(context.Background(), r); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(w.String(), "c1/eth0: macvlan") {
		t.Errorf("the default network was not attached in process:\n%s", w)
	}
	if err := e.Del(context.Background(), r); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"intent", "attached", "detached"}, commits); d != "" {
		t.Error(d)
	}
}

// paths notes the namespace that plugins are told of at DEL.
type paths struct {
	delegate
	told []string
}

func (p *paths) Del(ctx context.Context, run cni.Runner, a cni.Attachment, result json.RawMessage) error {
	p.told = append(p.told, a.Netns.Path)
	return p.delegate.Del(ctx, run, a, result)
}

// TestPluginsAreNotToldOfAnotherPodsNamespace: what is at the path by now, if
// anything, is not what they attached to.
func TestPluginsAreNotToldOfAnotherPodsNamespace(t *testing.T) {
	for name, c := range map[string]struct {
		change func(w *world)
		want   string
	}{
		"it is there":          {func(*world) {}, "/ns"},
		"it is gone":           {func(w *world) { w.gone = true }, ""},
		"its path was re-used": {func(w *world) { w.inode = 43 }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := standard(t)
			e := w.engine()
			p := &paths{delegate: delegate{w}}
			e.Delegate = p
			added(t, w, e)
			c.change(w)
			r := request("c1")
			if w.gone {
				r.Netns = nil
			}
			if err := e.Del(context.Background(), r); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff([]string{c.want}, p.told); d != "" {
				t.Error(d)
			}
		})
	}
}

// TestPluginsAreNotToldOfANamespaceThatNobodyOpened: a DEL that waited in the spool
// is of a sandbox that has ended, and its path may be another's by now.
func TestPluginsAreNotToldOfANamespaceThatNobodyOpened(t *testing.T) {
	w := standard(t)
	e := w.engine()
	p := &paths{delegate: delegate{w}}
	e.Delegate = p
	r := request("older-than-tendril")
	r.Netns = nil
	if err := e.Redeem(context.Background(), r); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{""}, p.told); d != "" {
		t.Error(d)
	}
}
