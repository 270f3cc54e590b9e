package cni_test

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netconf"
)

// taken is a pod as another meta-plugin has made it: its default network, and a
// VF.
func taken(t *testing.T, w *world, container string) []cni.Record {
	t.Helper()
	record := func(order int, ifName, network, kind, conf, device string) cni.Record {
		n, err := netconf.ParseNetwork("test", []byte(conf), "x")
		if err != nil {
			t.Fatal(err)
		}
		w.links[container+"/"+ifName] = kind
		r := cni.Record{Order: order, Phase: cni.Attached, Imported: true, Result: json.RawMessage(`{"cniVersion":"1.0.0"}`),
			Attachment: cni.Attachment{ContainerID: container, IfName: ifName, Call: "eth0", Network: network, Kind: kind, Config: n, Device: device, Default: order == 0,
				Pod: cni.PodRef{Namespace: "blue", Name: "p", UID: "u1"}, Netns: cni.Netns{Path: "/ns", Device: 4, Inode: 42}}}
		if order > 0 {
			ns, name, _ := strings.Cut(network, "/")
			r.Attachment.Selection = &netconf.Element{Namespace: ns, Name: name}
		}
		return r
	}
	return []cni.Record{record(0, "eth0", "cbr0", "exec", `{"cniVersion":"0.3.1","type":"bridge"}`, ""),
		record(1, "net1", "blue/fast", "sriov", `{"cniVersion":"0.3.1","type":"sriov"}`, "0000:01:10.0")}
}

func TestImportedSandboxIsUndoneByItsDel(t *testing.T) {
	w := standard(t)
	e := w.engine()
	sandboxes := map[string][]cni.Record{"c7": taken(t, w, "c7")}
	for i, want := range [][]string{{"c7"}, nil} { // the second start knows it
		got, err := e.Import(sandboxes)
		if err != nil || !slices.Equal(got, want) {
			t.Fatalf("import %d brought %v (%v), want %v", i, got, err, want)
		}
	}
	if err := e.Check(context.Background(), request("c7")); err != nil {
		t.Error(err)
	}
	if err := e.Plug(context.Background(), w.annotated("fast"), noRuntime); err != nil || len(w.links) != 2 {
		t.Errorf("a pod that has what it asks for was changed (%v):\n%s", err, w)
	}
	if err := e.Del(context.Background(), request("c7")); err != nil || w.String() != "" {
		t.Errorf("DEL left (%v)\n%s", err, w)
	}
	if left, err := e.Imported(); err != nil || len(left) != 0 {
		t.Errorf("still taken over: %v (%v)", left, err)
	}
}

// TestInvariant4ImportDoesNotShareAVF: the state of another meta-plugin may be of
// a pod that is long gone.
func TestInvariant4ImportDoesNotShareAVF(t *testing.T) {
	w := standard(t)
	e := w.engine()
	added(t, w, e)
	got, err := e.Import(map[string][]cni.Record{"c7": taken(t, w, "c7")})
	if err == nil || len(got) != 0 || !strings.Contains(err.Error(), "c7") || !strings.Contains(err.Error(), "0000:01:10.0") {
		t.Errorf("import brought %v (%v), want that the VF is in use", got, err)
	}
	delete(w.links, "c7/eth0")
	delete(w.links, "c7/net1")
	if d := cmp.Diff(attachedWorld, w.String()); d != "" {
		t.Error(d)
	}
}

func TestPlugDetachesAnImportedNetwork(t *testing.T) {
	w := standard(t)
	e := w.engine()
	if _, err := e.Import(map[string][]cni.Record{"c7": taken(t, w, "c7")}); err != nil {
		t.Fatal(err)
	}
	if err := e.Plug(context.Background(), w.annotated("signal"), noRuntime); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff("c7/eth0: exec\nc7/net1: ipvlan  198.51.100.7/24\n", w.String()); d != "" {
		t.Error(d)
	}
}

// TestPlugKeepsImportedNetworksThatTheNodeGives: no annotation asks for them.
func TestPlugKeepsImportedNetworksThatTheNodeGives(t *testing.T) {
	for name, network := range map[string]string{"a definition": "kube-system/base", "one written out": "base"} {
		t.Run(name, func(t *testing.T) {
			w := standard(t)
			e := w.engine()
			e.Node = func() netconf.Node { return netconf.Node{DefaultNetworks: []string{"base"}} }
			w.nads["kube-system/base"] = cni.Definition{Namespace: "kube-system", Name: "base", Config: w.nads["blue/storage"].Config}
			records := taken(t, w, "c7")
			base := records[1]
			base.Attachment.IfName, base.Attachment.Network, base.Attachment.Kind, base.Attachment.Device = "net1", network, cni.KindMacvlan, ""
			base.Attachment.Selection = &netconf.Element{Namespace: "kube-system", Name: "base"}
			if name == "one written out" {
				base.Attachment.Selection = nil
			}
			records[1].Attachment.IfName, records[1].Order = "net2", 2
			w.links = map[string]string{"c7/eth0": "exec", "c7/net1": "macvlan", "c7/net2": "sriov"}
			if _, err := e.Import(map[string][]cni.Record{"c7": {records[0], base, records[1]}}); err != nil {
				t.Fatal(err)
			}
			w.pod("fast")
			u, _ := auditor(w, e)
			if _, err := u.Audit(context.Background(), w.list(), noRuntime); err != nil || len(w.steps) > 0 {
				t.Errorf("a pod that has what it asks for was changed (%v): %v", err, w.steps)
			}
			if err := e.Plug(context.Background(), w.annotated(""), noRuntime); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff("c7/eth0: exec\nc7/net1: macvlan\n", w.String()); d != "" {
				t.Error(d)
			}
		})
	}
}
