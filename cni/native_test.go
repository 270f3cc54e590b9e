package cni_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/journal"
	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/cni/refusal"
)

// modifier notes its calls in the world, and what each of them is given.
type modifier struct {
	*world
	kind string
}

func (m modifier) say(verb string, r cni.Record) error {
	a := r.Attachment
	if len(a.Config.Plugins) != 1 || a.Config.Plugins[0].Type != m.kind {
		return fmt.Errorf("%s is given the plugins %v", m.kind, a.Config.Plugins)
	}
	if want := `"` + m.kind + `"`; verb != "prior" && string(r.Prior) != want {
		return fmt.Errorf("%s is given the note %s", m.kind, r.Prior)
	}
	return m.point(verb + " " + m.kind)
}

func (m modifier) Prior(_ context.Context, _ *os.File, a cni.Attachment) (json.RawMessage, error) {
	return json.RawMessage(`"` + m.kind + `"`), m.say("prior", cni.Record{Attachment: a})
}

func (m modifier) Attach(_ context.Context, _ *os.File, r cni.Record) (cni.Link, error) {
	l := r.Link
	if m.kind == "tuning" {
		l.MTU = 1400
	}
	return l, m.say("attach", r)
}

func (m modifier) Detach(_ context.Context, _ *os.File, r cni.Record) error {
	return m.say("detach", r)
}

func (m modifier) Check(_ context.Context, _ *os.File, r cni.Record) error { return m.say("check", r) }

// lender gives 198.51.100.9 to whoever asks.
type lender struct{ *world }

func (l lender) Fit(a cni.Attachment) error { return l.point("fit " + a.IfName) }

func (l lender) Acquire(_ context.Context, _ *os.File, r cni.Record) (cni.Attachment, error) {
	a := r.Attachment
	a.Addresses = []cni.Address{{Prefix: netip.MustParsePrefix("198.51.100.9/24"), Gateway: netip.MustParseAddr("198.51.100.1")}}
	return a, l.point("lease " + a.IfName)
}

func (l lender) Release(_ context.Context, _ *os.File, r cni.Record) error {
	return l.point("release " + r.Attachment.IfName)
}

const chain = `{"cniVersion":"1.0.0","name":"fused","plugins":[{"type":"macvlan","master":"m0","ipam":{"type":"host-local","subnet":"192.0.2.0/29"}},{"type":"tuning","mtu":1400},{"type":"sbr"}]}`

// fused is a pod with one network, a chain of our own, beside a default network
// that needs no plugin either.
func fused(t *testing.T, conf string) *world {
	w := newWorld(t)
	w.defConf = `{"cniVersion":"1.0.0","name":"cbr0","type":"macvlan","ipam":{"type":"host-local","subnet":"203.0.113.0/29"}}`
	w.nads["blue/fused"] = cni.Definition{Namespace: "blue", Name: "fused", Config: conf}
	w.pod("fused")
	return w
}

// startFused is start with the parts that a chain needs.
func (w *world) startFused(path string, hook func(string)) (*cni.Engine, *journal.Journal) {
	w.t.Helper()
	return w.startWith(path, hook, cni.Options{Drivers: map[string]cni.Driver{cni.KindMacvlan: driver{w}},
		Modifiers: map[string]cni.Modifier{"tuning": modifier{w, "tuning"}, "sbr": modifier{w, "sbr"}}, Leases: lender{w}})
}

func noPlugins(t *testing.T) cni.Request {
	r := request("c1")
	r.Run = func(_ context.Context, plugin string, _ []byte, _ []string) ([]byte, error) {
		t.Errorf("plugin %s was run", plugin)
		return nil, nil
	}
	return r
}

// TestInvariant8FusedChainRunsNoPlugin: link, then its modifiers in order, two
// transactions, and backwards at DEL; each sees its own plugin and its own note.
func TestInvariant8FusedChainRunsNoPlugin(t *testing.T) {
	w := fused(t, chain)
	var steps []string
	e, j := w.startFused(filepath.Join(t.TempDir(), "journal.db"), func(p string) { w.steps = append(w.steps, p) })
	defer j.Close()
	w.steps = nil
	if _, err := e.Add(context.Background(), noPlugins(t)); err != nil {
		t.Fatal(err)
	}
	if err := e.Check(context.Background(), noPlugins(t)); err != nil {
		t.Error(err)
	}
	if got := w.status["blue/p"][1]; got.MTU != 1400 || len(got.IPs) != 1 {
		t.Errorf("status is %+v, want the MTU of tuning", got)
	}
	if err := e.Del(context.Background(), noPlugins(t)); err != nil {
		t.Fatal(err)
	}
	for _, s := range w.steps {
		if !strings.HasSuffix(s, "eth0") && !strings.HasPrefix(s, "before") && !strings.HasPrefix(s, "attached n") && !strings.HasPrefix(s, "detached n") {
			steps = append(steps, s)
		}
	}
	if d := cmp.Diff([]string{"prior net1", "prior tuning", "prior sbr", "after intent", "attach net1", "attach tuning", "attach sbr", "after attached",
		"check tuning", "check sbr", "detach sbr", "detach tuning", "detach net1", "after detached"}, steps); d != "" {
		t.Error(d)
	}
}

// TestInvariant3CrashInAChain stops the daemon at every step of a chain.
func TestInvariant3CrashInAChain(t *testing.T) {
	w := fused(t, chain)
	e, j := w.startFused(filepath.Join(t.TempDir(), "journal.db"), func(p string) { _ = w.point(p) })
	w.steps = nil
	if err := errors.Join(addDel(e), j.Close()); err != nil {
		t.Fatal(err)
	}
	for _, p := range w.steps {
		t.Run(p, func(t *testing.T) {
			w := fused(t, chain)
			path := filepath.Join(t.TempDir(), "journal.db")
			e, j := w.startFused(path, func(at string) { _ = w.point(at) })
			w.crash = p
			func() {
				defer func() { _ = recover() }()
				_ = addDel(e)
				t.Errorf("point %q was never reached", p)
			}()
			j.Close()
			w.crash, w.steps = "", nil
			e, j = w.startFused(path, nil)
			defer j.Close()
			if err := e.Del(context.Background(), noPlugins(t)); err != nil {
				t.Fatal(err)
			}
			if w.String() != "" {
				t.Errorf("left over:\n%s", w)
			}
			if err := addDel(e); err != nil {
				t.Errorf("the pod cannot be added again: %v", err)
			}
		})
	}
}

func addDel(e *cni.Engine) error {
	r := request("c1")
	if _, err := e.Add(context.Background(), r); err != nil {
		return err
	}
	return e.Del(context.Background(), r)
}

// TestModifierThatFails: an ADD is undone, whatever else fails meanwhile; a DEL
// keeps the record of what a modifier could not give back, and takes the
// interface away.
func TestModifierThatFails(t *testing.T) {
	w := fused(t, chain)
	e, j := w.startFused(filepath.Join(t.TempDir(), "journal.db"), nil)
	defer j.Close()
	w.fail["attach sbr"] = errors.New("no table left")
	if _, err := e.Add(context.Background(), noPlugins(t)); err == nil || !strings.Contains(err.Error(), "sbr: no table left") {
		t.Errorf("error = %v", err)
	}
	if w.String() != "" {
		t.Errorf("a failed ADD left\n%s", w)
	}
	delete(w.fail, "attach sbr")
	if _, err := e.Add(context.Background(), noPlugins(t)); err != nil {
		t.Fatal(err)
	}
	w.fail["detach tuning"] = errors.New("busy")
	if err := e.Del(context.Background(), noPlugins(t)); err == nil || !strings.Contains(err.Error(), "tuning: busy") {
		t.Errorf("error = %v", err)
	}
	if w.String() != "" {
		t.Errorf("the interface stayed:\n%s", w)
	}
	delete(w.fail, "detach tuning")
	w.steps = nil
	if err := e.Del(context.Background(), noPlugins(t)); err != nil || len(w.steps) == 0 {
		t.Errorf("the second DEL did %v: %v", w.steps, err)
	}
}

// TestChainWithAForeignPluginIsExecuted, all of it; and so is a default network
// of type bridge, whose addresses its plugins know.
func TestChainWithAForeignPluginIsExecuted(t *testing.T) {
	w := fused(t, `{"cniVersion":"1.0.0","name":"fused","plugins":[{"type":"macvlan","master":"m0"},{"type":"tuning"},{"type":"route-override"}]}`)
	w.defConf = `{"cniVersion":"1.0.0","name":"cbr0","plugins":[{"type":"bridge","ipam":{"type":"host-local","subnet":"203.0.113.0/29"}}]}`
	e, j := w.startFused(filepath.Join(t.TempDir(), "journal.db"), nil)
	defer j.Close()
	if _, err := e.Add(context.Background(), request("c1")); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff("c1/eth0: exec\nc1/net1: exec\n", w.String()); d != "" {
		t.Error(d)
	}
}

// TestLeaseComesAfterTheInterface and goes before it; what it says is the
// attachment's, for the modifiers, the result and the journal.
func TestLeaseComesAfterTheInterface(t *testing.T) {
	w := fused(t, `{"cniVersion":"1.0.0","name":"fused","plugins":[{"type":"macvlan","master":"m0","ipam":{"type":"dhcp"}},{"type":"sbr"}]}`)
	e, j := w.startFused(filepath.Join(t.TempDir(), "journal.db"), nil)
	defer j.Close()
	if err := addDel(e); err != nil {
		t.Fatal(err)
	}
	if got := w.status["blue/p"][1].IPs; len(got) != 1 || got[0] != "198.51.100.9" {
		t.Errorf("status has the addresses %v", got)
	}
	var steps []string
	for _, s := range w.steps {
		if !strings.Contains(s, "eth0") {
			steps = append(steps, s)
		}
	}
	if d := cmp.Diff([]string{"prior net1", "fit net1", "prior sbr", "attach net1", "attached net1", "lease net1", "attach sbr",
		"detach sbr", "release net1", "detach net1", "detached net1"}, steps); d != "" {
		t.Error(d)
	}
}

func TestInvariant9RefusalsOfLeases(t *testing.T) {
	for name, c := range map[string]struct{ conf, pod, want string }{
		"addresses asked for": {`{"type":"macvlan","ipam":{"type":"dhcp"}}`, `[{"name":"fused","ips":["192.0.2.7"]}]`, "the server chooses"},
		"ipvlan l3":           {`{"type":"ipvlan","mode":"l3","ipam":{"type":"dhcp"}}`, `fused`, "mode l3"},
		"bridge with gateway": {`{"type":"bridge","isGateway":true,"ipam":{"type":"dhcp"}}`, `fused`, "isGateway"},
		"a plugin we lack":    {`{"name":"x","plugins":[{"type":"macvlan"},{"type":"vrf","vrfname":"a"}]}`, `fused`, "plugins[1].type"},
	} {
		t.Run(name, func(t *testing.T) {
			w := fused(t, c.conf)
			w.pod(c.pod)
			e, j := w.startFused(filepath.Join(t.TempDir(), "journal.db"), nil)
			defer j.Close()
			_, err := e.Add(context.Background(), noPlugins(t))
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "blue/fused") {
				t.Errorf("error = %v, want %q", err, c.want)
			}
			if w.String() != "" {
				t.Errorf("left over:\n%s", w)
			}
		})
	}
}

// TestInvariant9NothingAskedForIsDropped: a capability that the network declares
// and none of its plugins serves; and the one that a VF serves.
func TestInvariant9NothingAskedForIsDropped(t *testing.T) {
	plan := func(kind string, el netconf.Element) (cni.Attachment, error) {
		t.Helper()
		n, err := netconf.ParseNetwork("x", []byte(`{"name":"x","type":"`+kind+`","capabilities":{"bandwidth":true,"infinibandGUID":true,"portMappings":true}}`), "x")
		if err != nil {
			t.Fatal(err)
		}
		def, _ := netconf.ParseNetwork("x", []byte(`{"type":"macvlan"}`), "x")
		el.Name, el.Namespace, el.DeviceID = "x", "y", "0000:01:10.0"
		got, err := cni.Plan(cni.Wanted{ContainerID: "c", IfName: "eth0", Default: cni.Choice{Network: &def}, Choices: []cni.Choice{{Network: &n, Asked: true, Element: el}}})
		if err != nil {
			return cni.Attachment{}, err
		}
		return got[1].Attachment, nil
	}
	rate := json.RawMessage(`{"ingressRate":0,"ingressBurst":0,"egressRate":25500000,"egressBurst":1000}`)
	for field, c := range map[string]struct {
		kind string
		el   netconf.Element
	}{
		"bandwidth":       {"macvlan", netconf.Element{Bandwidth: rate}},
		"infiniband-guid": {"sriov", netconf.Element{InfinibandGUID: "02:00:00:00:00:00:00:01"}},
		"portMappings":    {"bridge", netconf.Element{PortMappings: json.RawMessage(`[{"hostPort":1}]`)}},
	} {
		var r *refusal.Refusal
		if _, err := plan(c.kind, c.el); !errors.As(err, &r) || r.Field != field || r.Value == "" || r.Object == "" {
			t.Errorf("%s: %v", field, err)
		}
	}
	a, err := plan("sriov", netconf.Element{Bandwidth: rate})
	if err != nil {
		t.Fatal(err)
	}
	if conf, err := netconf.ParseSriov(a.Config.Plugins[0]); err != nil || conf.MaxTxRate == nil || *conf.MaxTxRate != 25 || *conf.MinTxRate != 0 {
		t.Errorf("the VF gets %+v, %v", conf, err)
	}
}

// TestMACOfThePodReachesTuning where the kind has none of its own.
func TestMACOfThePodReachesTuning(t *testing.T) {
	plan := func(conf string) cni.Attachment {
		t.Helper()
		n, err := netconf.ParseNetwork("x", []byte(conf), "x")
		if err != nil {
			t.Fatal(err)
		}
		def, _ := netconf.ParseNetwork("x", []byte(`{"type":"macvlan"}`), "x")
		got, err := cni.Plan(cni.Wanted{ContainerID: "c", IfName: "eth0", Default: cni.Choice{Network: &def},
			Choices: []cni.Choice{{Network: &n, Asked: true, Element: netconf.Element{Name: "x", Namespace: "y", MAC: "02:00:00:00:00:09"}}}})
		if err != nil {
			t.Fatal(err)
		}
		return got[1].Attachment
	}
	for kind, link := range map[string]string{"vlan": "", "macvlan": "02:00:00:00:00:09"} {
		a := plan(`{"name":"x","plugins":[{"type":"` + kind + `","master":"m0","vlanId":7},{"type":"tuning"}]}`)
		conf, err := netconf.ParseTuning(a.Config.Plugins[1])
		if err != nil || conf.MAC != "02:00:00:00:00:09" || a.MAC != link {
			t.Errorf("%s: tuning has %q, the link %q, %v", kind, conf.MAC, a.MAC, err)
		}
	}
}

// TestMendedInterfaceHasItsNewLease: the old one was given back with the interface,
// and the server may have another address by now.
func TestMendedInterfaceHasItsNewLease(t *testing.T) {
	w := fused(t, `{"cniVersion":"1.0.0","type":"macvlan","master":"m0","ipam":{"type":"dhcp"}}`)
	e, j := w.startFused(filepath.Join(t.TempDir(), "journal.db"), nil)
	defer j.Close()
	added(t, w, e)
	e.Leases = another{lender{w}}
	records, err := e.Records()
	if err != nil {
		t.Fatal(err)
	}
	for _, seen := range records {
		if seen.Attachment.IfName != "net1" {
			continue
		}
		err := e.Mend(context.Background(), seen, func(ctx context.Context, ns *os.File, d cni.Driver, rec cni.Record) (cni.Record, error) {
			if err := d.Detach(ctx, ns, rec); err != nil {
				return rec, err
			}
			rec.Link, err = d.Attach(ctx, ns, rec)
			return rec, err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if records, err = e.Records(); err != nil {
		t.Fatal(err)
	}
	for _, rec := range records {
		if rec.Attachment.IfName == "net1" && (len(rec.Attachment.Addresses) != 1 || rec.Attachment.Addresses[0].Prefix.String() != "198.51.100.10/24") {
			t.Errorf("the record has %v", rec.Attachment.Addresses)
		}
	}
	if s := w.status["blue/p"]; len(s) != 2 || strings.Join(s[1].IPs, ",") != "198.51.100.10" {
		t.Errorf("network-status is %+v", s)
	}
}

// another gives the next address.
type another struct{ lender }

func (l another) Acquire(ctx context.Context, ns *os.File, r cni.Record) (cni.Attachment, error) {
	a, err := l.lender.Acquire(ctx, ns, r)
	a.Addresses[0].Prefix = netip.MustParsePrefix("198.51.100.10/24")
	return a, err
}
