package netconf_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/cni/refusal"
)

const nad = `NetworkAttachmentDefinition "blue/storage"`

func parse(t testing.TB, in string) netconf.Network {
	t.Helper()
	n, err := netconf.ParseNetwork(nad, []byte(in), "storage")
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// wantRefusal checks field and value, and that the refusal says what is allowed.
func wantRefusal(t *testing.T, in string, err error, field, value string) *refusal.Refusal {
	t.Helper()
	var r *refusal.Refusal
	if !errors.As(err, &r) {
		t.Errorf("%s: error %v, want a refusal of %s", in, err, field)
		return &refusal.Refusal{}
	}
	if r.Field != field || r.Value != value || r.Allowed == "" {
		t.Errorf("%s: refused %s %s (allowed %s), want %s %s", in, r.Field, r.Value, r.Allowed, field, value)
	}
	return r
}

func TestParseNetworkForms(t *testing.T) {
	for name, tt := range map[string]struct {
		in   string
		want netconf.Network
	}{
		"single": {
			`{"cniVersion":"1.0.0","name":"n","type":"macvlan","master":"eth0","capabilities":{"ips":true,"mac":false}}`,
			netconf.Network{Name: "n", CNIVersion: "1.0.0", Plugins: []netconf.Plugin{
				{Type: "macvlan", Capabilities: map[string]bool{"ips": true}}}}},
		"no name, no version": {
			`{"type":"macvlan"}`,
			netconf.Network{Name: "storage", CNIVersion: "0.1.0", Plugins: []netconf.Plugin{{Type: "macvlan"}}}},
		"empty and null name": {
			`{"type":"macvlan","name":"","cniVersion":null}`,
			netconf.Network{Name: "storage", CNIVersion: "0.1.0", Plugins: []netconf.Plugin{{Type: "macvlan"}}}},
		"list": {
			`{"cniVersion":"0.4.0","name":"other","disableCheck":true,"disableGC":"True","plugins":[{"type":"sriov"},{"type":"tuning","capabilities":{"mac":true}}]}`,
			netconf.Network{Name: "other", CNIVersion: "0.4.0", DisableCheck: true, DisableGC: true, Plugins: []netconf.Plugin{
				{Type: "sriov"}, {Type: "tuning", Capabilities: map[string]bool{"mac": true}}}}},
		"a type at the top beats plugins": {
			`{"type":"bridge","plugins":[{"type":"tuning"}]}`,
			netconf.Network{Name: "storage", CNIVersion: "0.1.0", Plugins: []netconf.Plugin{{Type: "bridge"}}}},
		"an empty type does not": {
			`{"type":"","plugins":[{"type":"tuning"}]}`,
			netconf.Network{Name: "storage", CNIVersion: "0.1.0", Plugins: []netconf.Plugin{{Type: "tuning"}}}},
		"highest version both speak": {
			`{"cniVersion":"0.3.1","cniVersions":["1.0.0","9.0.0","0.4.0"],"type":"a"}`,
			netconf.Network{Name: "storage", CNIVersion: "1.0.0", Plugins: []netconf.Plugin{{Type: "a"}}}},
		"keys in any case": {
			`{"CNIVersion":"0.3.1","Name":"n","Type":"a"}`,
			netconf.Network{Name: "n", CNIVersion: "0.3.1", Plugins: []netconf.Plugin{{Type: "a"}}}},
	} {
		t.Run(name, func(t *testing.T) {
			got := parse(t, tt.in)
			for i := range got.Plugins {
				if !strings.Contains(tt.in, string(got.Plugins[i].Raw)) {
					t.Errorf("plugin %d is not as written: %s", i, got.Plugins[i].Raw)
				}
				got.Plugins[i].Raw = nil
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestInvariant9ParseNetworkRefuses(t *testing.T) {
	for _, tt := range []struct{ in, field, value string }{
		{`null`, "", "null"},
		{`[]`, "", "[]"},
		{`"macvlan"`, "", `"macvlan"`},
		{`{}`, "type", `""`},
		{`{"plugins":[]}`, "type", `""`},
		{`{"plugins":{}}`, "plugins", "{}"},
		{`{"plugins":[{"type":"a"},{}]}`, "plugins[1].type", `""`},
		{`{"plugins":[3]}`, "plugins[0]", "3"},
		{`{"type":3}`, "type", "3"},
		{`{"type":"../../bin/sh"}`, "type", `"../../bin/sh"`},
		{`{"type":".."}`, "type", `".."`},
		{`{"type":"a","name":"a/b"}`, "name", `"a/b"`},
		{`{"type":"a","name":7}`, "name", "7"},
		{`{"type":"a","cniVersion":"2.0.0"}`, "cniVersion", `"2.0.0"`},
		{`{"type":"a","cniVersion":"latest"}`, "cniVersion", `"latest"`},
		{`{"type":"a","cniVersions":["9.0.0"]}`, "cniVersion", `"9.0.0"`},
		{`{"type":"a","cniVersions":[1]}`, "cniVersions[0]", "1"},
		{`{"type":"a","disableCheck":"perhaps"}`, "disableCheck", `"perhaps"`},
		{`{"type":"a","capabilities":{"mac":"yes"}}`, "capabilities", `{"mac":"yes"}`},
		{`{"type":"a","capabilities":[]}`, "capabilities", `[]`},
		{`{"type":"a","ipam":"static"}`, "ipam", `"static"`},
		{`{"plugins":[{"type":"a","ipam":{"type":"../x"}}]}`, "plugins[0].ipam.type", `"../x"`},
	} {
		_, err := netconf.ParseNetwork(nad, []byte(tt.in), "storage")
		if r := wantRefusal(t, tt.in, err, tt.field, tt.value); r.Object != nad {
			t.Errorf("%s: object %q", tt.in, r.Object)
		}
	}
	_, err := netconf.ParseNetwork(nad, []byte(`{"type":"a"}`), "")
	wantRefusal(t, "no default name", err, "name", `""`)
}

func TestSyntaxErrorsHaveAPosition(t *testing.T) {
	for _, tt := range []struct {
		in           string
		byte, ln, co int
	}{
		{"", 0, 1, 1},
		{`{"type":`, 8, 1, 9},
		{"{\"type\": \"macvlan\",\n \"master\" \"eth0\"}", 30, 2, 11},
		{"{\"type\": \"macvlan\",\n\n}", 21, 3, 1},
		{`{"type":"a"} x`, 13, 1, 14},
	} {
		_, err := netconf.ParseNetwork(nad, []byte(tt.in), "storage")
		var at netconf.Position
		if !errors.As(err, &at) {
			t.Errorf("%q: no position in %v", tt.in, err)
			continue
		}
		if want := (netconf.Position{Byte: tt.byte, Line: tt.ln, Column: tt.co}); at != want {
			t.Errorf("%q: %+v, want %+v", tt.in, at, want)
		}
		if !strings.Contains(err.Error(), nad) {
			t.Errorf("%v does not name the object", err)
		}
	}
}

func TestNative(t *testing.T) {
	for in, want := range map[string]bool{
		`{"type":"sriov"}`:                                 true,
		`{"type":"macvlan","ipam":{}}`:                     true,
		`{"type":"macvlan","ipam":null}`:                   true,
		`{"type":"ipvlan","ipam":{"type":""}}`:             true,
		`{"type":"ipvlan","ipam":{"type":"static"}}`:       true,
		`{"type":"ipvlan","IPAM":{"TYPE":"host-local"}}`:   true,
		`{"plugins":[{"type":"sriov"}]}`:                   true,
		`{"type":"macvlan","ipam":{"type":"whereabouts"}}`: true,
		`{"type":"macvlan","ipam":{"type":"tendril"}}`:     true,
		`{"type":"macvlan","ipam":{"type":"dhcp"}}`:        true,
		`{"type":"bridge"}`:                                true,
		`{"type":"vlan"}`:                                  true,
		`{"type":"host-device"}`:                           true,
		`{"type":"bond"}`:                                  true,
		`{"type":"tuning"}`:                                false,
		`{"type":"ptp"}`:                                   false,
		`{"type":"SRIOV"}`:                                 false,
		`{"plugins":[{"type":"sriov"},{"type":"tuning"}]}`: true,
		`{"plugins":[{"type":"macvlan"},{"type":"tuning"},{"type":"sbr"},{"type":"vrf"}]}`: true,
		`{"plugins":[{"type":"bridge"},{"type":"portmap"}]}`:                               false,
		`{"plugins":[{"type":"macvlan"},{"type":"tuning"},{"type":"route-override"}]}`:     false,
		`{"plugins":[{"type":"macvlan"},{"type":"ipvlan"}]}`:                               false,
		`{"plugins":[{"type":"tuning"},{"type":"macvlan"}]}`:                               false,
	} {
		if got := parse(t, in).Native(); got != want {
			t.Errorf("%s: native %v", in, got)
		}
	}
}

func TestParseIPAMAndDNS(t *testing.T) {
	p := parse(t, `{"type":"macvlan","ipam":{"type":"static", "x":12345678901234567890},"dns":{"nameservers":["10.0.0.2"],"domain":"a","search":["b"],"options":["c"]}}`).Plugins[0]
	raw, kind, err := netconf.ParseIPAM(p)
	if err != nil || kind != "static" || string(raw) != `{"type":"static", "x":12345678901234567890}` {
		t.Errorf("got %s %q %v", raw, kind, err)
	}
	dns, err := netconf.ParseDNS(p)
	want := netconf.DNS{Nameservers: []string{"10.0.0.2"}, Domain: "a", Search: []string{"b"}, Options: []string{"c"}}
	if diff := cmp.Diff(want, dns); err != nil || diff != "" {
		t.Error(err, diff)
	}
	if raw, kind, err := netconf.ParseIPAM(parse(t, `{"type":"macvlan"}`).Plugins[0]); raw != nil || kind != "" || err != nil {
		t.Errorf("got %s %q %v", raw, kind, err)
	}
	_, err = netconf.ParseDNS(parse(t, `{"type":"a","dns":{"search":[1]}}`).Plugins[0])
	wantRefusal(t, "dns", err, "dns.search[0]", "1")
}

func TestListKeepsWhatWasWritten(t *testing.T) {
	n := parse(t, `{"type":"a","big":123456789012345678901234567890,"text":"<&>\u00e9","deep":{"b":[1,{"c":1.50}]},"null":null}`)
	list, err := netconf.List(n)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"cniVersion":"0.1.0","name":"storage","plugins":[{"type":"a","big":123456789012345678901234567890,"text":"<&>\u00e9","deep":{"b":[1,{"c":1.50}]},"null":null}]}`
	if string(list) != want {
		t.Errorf("got %s", list)
	}
	again := parse(t, string(list))
	if diff := cmp.Diff(n, again); diff != "" {
		t.Error(diff)
	}
}

func TestWithDevice(t *testing.T) {
	in := `{"plugins":[{"type":"sriov","PCIBUSID":"old","big":123456789012345678901234567890,"t":"<"},{"type":"tuning"}]}`
	n := parse(t, in)
	got := netconf.WithDevice(n, "0000:01:10.2")
	want := []string{
		`{"big":123456789012345678901234567890,"deviceID":"0000:01:10.2","pciBusID":"0000:01:10.2","t":"<","type":"sriov"}`,
		`{"deviceID":"0000:01:10.2","pciBusID":"0000:01:10.2","type":"tuning"}`,
	}
	for i, w := range want {
		if string(got.Plugins[i].Raw) != w {
			t.Errorf("plugin %d: %s", i, got.Plugins[i].Raw)
		}
	}
	if diff := cmp.Diff(parse(t, in), n); diff != "" {
		t.Errorf("the network given was changed: %s", diff)
	}
	if diff := cmp.Diff(n, netconf.WithDevice(n, "")); diff != "" {
		t.Error(diff)
	}
}

func TestWithArgs(t *testing.T) {
	n := parse(t, `{"plugins":[{"type":"a","args":{"cni":{"x":1,"y":18446744073709551616},"other":2}},{"type":"b"}]}`)
	got, err := netconf.WithArgs(n, map[string]json.RawMessage{"x": json.RawMessage(`"pod"`), "z": json.RawMessage(`[]`)})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{
		`{"args":{"cni":{"x":"pod","y":18446744073709551616,"z":[]},"other":2},"type":"a"}`,
		`{"args":{"cni":{"x":"pod","z":[]}},"type":"b"}`,
	} {
		if string(got.Plugins[i].Raw) != want {
			t.Errorf("plugin %d: %s", i, got.Plugins[i].Raw)
		}
	}
	_, err = netconf.WithArgs(parse(t, `{"type":"a","args":{"cni":[]}}`), map[string]json.RawMessage{"x": json.RawMessage(`1`)})
	wantRefusal(t, "args.cni", err, "args.cni", "[]")
}

func TestCapabilities(t *testing.T) {
	n := parse(t, `{"plugins":[{"type":"macvlan","ipam":{"type":"dhcp"},"capabilities":{"mac":true,"deviceID":true}},{"type":"portmap","capabilities":{"portMappings":true,"ips":false}}]}`)
	all, err := netconf.ParseSelections(`[{"name":"a","ips":["10.0.0.5"],"mac":"02:00:00:00:00:01","portMappings":[{"hostPort":1,"containerPort":2}],"bandwidth":{"ingressRate":5},"infiniband-guid":"00:11:22:33:44:55:66:77","deviceID":"d0"}]`, "blue")
	if err != nil {
		t.Fatal(err)
	}
	e := all[0]
	want := []map[string]json.RawMessage{
		{"mac": json.RawMessage(`"02:00:00:00:00:01"`), "deviceID": json.RawMessage(`"d1"`)},
		{"portMappings": json.RawMessage(`[{"hostPort":1,"containerPort":2,"protocol":"tcp"}]`)},
	}
	for i, p := range n.Plugins {
		if diff := cmp.Diff(want[i], netconf.RuntimeConfig(p, e, "d1")); diff != "" {
			t.Error(diff)
		}
	}
	if got := netconf.RuntimeConfig(n.Plugins[0], e)["deviceID"]; string(got) != `"d0"` {
		t.Errorf("without a device: %s", got)
	}
	if got := netconf.RuntimeConfig(netconf.Plugin{Type: "x"}, e, "d1"); got != nil {
		t.Errorf("nothing declared: %v", got)
	}
	if diff := cmp.Diff([]string{"ips", "bandwidth", "infinibandGUID"}, netconf.Undeclared(n, e)); diff != "" {
		t.Error(diff)
	}
	if got := netconf.Undeclared(n, netconf.Element{Name: "a"}); len(got) != 0 {
		t.Errorf("asks for nothing: %v", got)
	}
	if !netconf.ReadsArgs(n, "mac") || netconf.ReadsArgs(n, "ips") || netconf.ReadsArgs(n, "bandwidth") {
		t.Error("macvlan with dhcp reads MAC= and nothing else")
	}
	if !netconf.ReadsArgs(parse(t, `{"type":"x","ipam":{"type":"static"}}`), "ips") {
		t.Error("static reads IP=")
	}
}

func TestAskedIPs(t *testing.T) {
	e := netconf.Element{IPs: []string{"10.0.0.5/24"}}
	for _, tt := range []struct {
		in   string
		e    netconf.Element
		want []string
	}{
		{`{"type":"a","ipam":{"type":"static"}}`, e, []string{"10.0.0.5/24"}},
		{`{"type":"a","ipam":{"type":"static"},"args":{"cni":{"ips":["10.0.0.6/24"]}}}`, e, []string{"10.0.0.5/24"}},
		{`{"type":"a","ipam":{"type":"static"},"args":{"cni":{"ips":["10.0.0.6/24"]}}}`, netconf.Element{}, []string{"10.0.0.6/24"}},
		{`{"type":"a","ipam":{"type":"host-local"},"args":{"cni":{"ips":["10.0.0.6","10.0.0.5/24"]}}}`, e, []string{"10.0.0.6", "10.0.0.5/24"}},
		{`{"type":"a"}`, netconf.Element{}, nil},
	} {
		got, err := netconf.AskedIPs(parse(t, tt.in).Plugins[0], tt.e)
		if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
			t.Errorf("%s: %v %s", tt.in, err, diff)
		}
	}
	_, err := netconf.AskedIPs(parse(t, `{"type":"a","args":{"cni":{"ips":["x"]}}}`).Plugins[0], e)
	wantRefusal(t, "args", err, "args.cni.ips[0]", `"x"`)
}

func FuzzParseNetwork(f *testing.F) {
	for _, s := range []string{
		`{"type":"macvlan","master":"eth0","ipam":{"type":"static"}}`,
		`{"cniVersion":"0.4.0","name":"n","disableCheck":"true","plugins":[{"type":"sriov","capabilities":{"mac":true}},{"type":"tuning","x":123456789012345678901}]}`,
		"{\"type\":\n 1", "\"\t", `{"plugins":[{"type":""}]}`, `{"type":"a","args":{"cni":{"ips":["10.0.0.1"]}}}`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		n, err := netconf.ParseNetwork(nad, []byte(in), "storage")
		if err != nil {
			wantWhole(t, in, err)
			return
		}
		list, err := netconf.List(n)
		if err != nil {
			t.Fatalf("%q: %v", in, err)
		}
		again, err := netconf.ParseNetwork(nad, list, "")
		if err != nil {
			t.Fatalf("%q: own list %s refused: %v", in, list, err)
		}
		if again.Name != n.Name || again.CNIVersion != n.CNIVersion || len(again.Plugins) != len(n.Plugins) || again.Native() != n.Native() {
			t.Fatalf("%q: %+v came back as %+v", in, n, again)
		}
		for i, p := range netconf.WithDevice(n, "d").Plugins {
			sameFields(t, n.Plugins[i].Raw, p.Raw)
		}
	})
}

// sameFields fails unless after has every field of before with the same value,
// the device apart.
func sameFields(t *testing.T, before, after json.RawMessage) {
	t.Helper()
	var b, a map[string]json.RawMessage
	if json.Unmarshal(before, &b) != nil || json.Unmarshal(after, &a) != nil {
		t.Fatalf("%s became %s", before, after)
	}
	for key, value := range b {
		if strings.EqualFold(key, "deviceID") || strings.EqualFold(key, "pciBusID") {
			continue
		}
		var x, y any
		decode(t, value, &x)
		decode(t, a[key], &y)
		if diff := cmp.Diff(x, y); diff != "" {
			t.Fatalf("field %q of %s: %s", key, before, diff)
		}
	}
}

func decode(t *testing.T, raw json.RawMessage, v *any) {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(string(raw)))
	dec.UseNumber()
	if err := dec.Decode(v); err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
}

// wantWhole fails unless err is a refusal that says what is allowed.
func wantWhole(t *testing.T, in string, err error) {
	t.Helper()
	var r *refusal.Refusal
	if !errors.As(err, &r) || r.Allowed == "" || r.Value == "" {
		t.Fatalf("%q: %v is not a whole refusal", in, err)
	}
}
