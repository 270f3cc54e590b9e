package netconf_test

import (
	"encoding/json"
	"errors"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tendril-cni/tendril/cni/netconf"
)

var compare = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

func TestParseSelectionsShort(t *testing.T) {
	for in, want := range map[string][]netconf.Element{
		"":                   nil,
		" \n":                nil,
		"a":                  {{Namespace: "blue", Name: "a"}},
		"red/a@eth1":         {{Namespace: "red", Name: "a", Interface: "eth1"}},
		"a@foo,b":            {{Namespace: "blue", Name: "a", Interface: "foo"}, {Namespace: "blue", Name: "b"}},
		" red / a @ Up1 , b": {{Namespace: "red", Name: "a", Interface: "Up1"}, {Namespace: "blue", Name: "b"}},
		"a,a":                {{Namespace: "blue", Name: "a"}, {Namespace: "blue", Name: "a"}},
		"/a@":                {{Namespace: "blue", Name: "a"}},
		"a@fifteen-bytes.x":  {{Namespace: "blue", Name: "a", Interface: "fifteen-bytes.x"}},
		"0-1":                {{Namespace: "blue", Name: "0-1"}},
	} {
		got, err := netconf.ParseSelections(in, "blue")
		if diff := cmp.Diff(want, got, compare); err != nil || diff != "" {
			t.Errorf("%q: %v %s", in, err, diff)
		}
	}
}

func TestInvariant9ParseSelectionsRefuses(t *testing.T) {
	for _, tt := range []struct {
		in, field, value string
		at               int
	}{
		// short form
		{"a,", "[1]", `""`, 2},
		{"a,,b", "[1]", `""`, 2},
		{"a, b/c/d", "[1]", `"b/c/d"`, 3},
		{"a@b@c", "[0]", `"a@b@c"`, 0},
		{"a,b.c", "[1].name", `"b.c"`, 2},
		{"A", "[0].name", `"A"`, 0},
		{"@eth1", "[0].name", `""`, 0},
		{"Red/a", "[0].namespace", `"Red"`, 0},
		{"a-", "[0].name", `"a-"`, 0},
		{"a@sixteen-bytes.xx", "[0].interface", `"sixteen-bytes.xx"`, 0},
		{"a@..", "[0].interface", `".."`, 0},
		{"a@x:y", "[0].interface", `"x:y"`, 0},
		{"a@net%d", "[0].interface", `"net%d"`, 0},
		{"a@x y", "[0].interface", `"x y"`, 0},
		{"a@\u00a0", "[0].interface", `""`, -1}, // white space is trimmed
		{"a@x\u00e0", "[0].interface", `"xà"`, 0},
		{"a@n,b,c@n", "[2].interface", `"n"`, 6},
		// JSON
		{`{"name":"a"}`, "", `{"name":"a"}`, 0},
		{`"a"`, "", `"a"`, 0},
		{`[null]`, "[0]", "null", 1},
		{`["a"]`, "[0]", `"a"`, 1},
		{`[{}]`, "[0].name", `""`, 1},
		{`[{"name":"a"}, {"name":"B"}]`, "[1].name", `"B"`, 15},
		{`[{"name":5}]`, "[0].name", "5", 1},
		{`[{"name":"a","namespace":"b.c"}]`, "[0].namespace", `"b.c"`, 1},
		{`[{"name":"a","interface":"a/b"}]`, "[0].interface", `"a/b"`, 1},
		{`[{"name":"a","interface":"n"},{"name":"a","interface":"n"}]`, "[1].interface", `"n"`, 30},
		{`[{"name":"a","ips":["10.0.0.1","10.0.0.1/33"]}]`, "[0].ips[1]", `"10.0.0.1/33"`, 1},
		{`[{"name":"a","ips":"10.0.0.1"}]`, "[0].ips", `"10.0.0.1"`, 1},
		{`[{"name":"a","ips":["fe80::1%eth0"]}]`, "[0].ips[0]", `"fe80::1%eth0"`, 1},
		{`[{"name":"a","mac":"02:00:00:00:00"}]`, "[0].mac", `"02:00:00:00:00"`, 1},
		{`[{"name":"a","infiniband-guid":"02:00:00:00:00:01"}]`, "[0].infiniband-guid", `"02:00:00:00:00:01"`, 1},
		{`[{"name":"a","portMappings":[{"hostPort":80,"containerPort":80},{"hostPort":70000,"containerPort":80}]}]`, "[0].portMappings[1].hostPort", "70000", 1},
		{`[{"name":"a","portMappings":[{"hostPort":80}]}]`, "[0].portMappings[0].containerPort", "absent", 1},
		{`[{"name":"a","portMappings":[{"hostPort":80,"containerPort":80,"protocol":"icmp"}]}]`, "[0].portMappings[0].protocol", `"icmp"`, 1},
		{`[{"name":"a","portMappings":[{"hostPort":80,"containerPort":80,"hostIP":"x"}]}]`, "[0].portMappings[0].hostIP", `"x"`, 1},
		{`[{"name":"a","portMappings":{}}]`, "[0].portMappings", `{}`, 1},
		{`[{"name":"a","bandwidth":{"ingressRate":-1}}]`, "[0].bandwidth.ingressRate", "-1", 1},
		{`[{"name":"a","bandwidth":{"egressBurst":5}}]`, "[0].bandwidth.egressBurst", "5", 1},
		{`[{"name":"a","default-route":["10.0.0.0/8"]}]`, "[0].default-route[0]", `"10.0.0.0/8"`, 1},
		{`[{"name":"a","default-route":["0.0.0.0"]}]`, "[0].default-route[0]", `"0.0.0.0"`, 1},
		{`[{"name":"a","cni-args":[]}]`, "[0].cni-args", "[]", 1},
		{`[{"name":"a","deviceID":"../x"}]`, "[0].deviceID", `"../x"`, 1},
		{`[{"name":"a","ipam-claim-reference":"c","ips":["10.0.0.1"]}]`, "[0].ips", `"10.0.0.1"`, 1},
		{`[{"name":"a","ipam-claim-reference":"C"}]`, "[0].ipam-claim-reference", `"C"`, 1},
		{"[{\"name\":\"a\"},\n {\"name\" \"b\"}]", "", `"b"}]`, 24},
		{`[{"name":"a"}`, "", "end of text", 13},
	} {
		_, err := netconf.ParseSelections(tt.in, "blue")
		if tt.at < 0 {
			if err != nil {
				t.Errorf("%q: %v", tt.in, err)
			}
			continue
		}
		wantRefusal(t, tt.in, err, tt.field, tt.value)
		var at netconf.Position
		if !errors.As(err, &at) || at.Byte != tt.at {
			t.Errorf("%q: position %+v, want byte %d", tt.in, at, tt.at)
		}
	}
}

func TestParseSelectionsJSON(t *testing.T) {
	in := ` [ {"name":"a.b","namespace":"red","interface":"Eth_1","interfaceRequest":"old","ips":["10.0.0.5/24","fd00::5"],
		"mac":"CA-FE-C0-FF-EE-00","infiniband-guid":"00:11:22:33:44:55:66:AA",
		"portMappings":[{"hostPort":80,"containerPort":8080,"protocol":"UDP","hostIP":"10.0.0.1","x":1},{"hostPort":1,"containerPort":65535}],
		"bandwidth":{"ingressRate":1000,"ingressBurst":2000},"default-route":["10.0.0.1","::ffff:10.0.0.2"],
		"cni-args":{"Key":123456789012345678901},"deviceID":"0000:01:10.2","unknown":true,"gateway":5},
		{"Name":"b","interfaceRequest":"old","default-route":[],"ips":[],"portMappings":[],"ipam-claim-reference":"vm.net"},
		{"name":"b","default-route":null,"mac":"00:11:22:33:44:55:66:77:88:99:00:11:22:33:44:55:66:77:88:99"} ]`
	want := []netconf.Element{{
		Namespace: "red", Name: "a.b", Interface: "Eth_1", IPs: []string{"10.0.0.5/24", "fd00::5"},
		MAC: "ca:fe:c0:ff:ee:00", InfinibandGUID: "00:11:22:33:44:55:66:aa",
		PortMappings: json.RawMessage(`[{"hostPort":80,"containerPort":8080,"protocol":"udp","hostIP":"10.0.0.1"},{"hostPort":1,"containerPort":65535,"protocol":"tcp"}]`),
		Bandwidth:    json.RawMessage(`{"ingressRate":1000,"ingressBurst":2000,"egressRate":0,"egressBurst":0}`),
		DefaultRoute: []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")},
		CNIArgs:      map[string]json.RawMessage{"Key": json.RawMessage("123456789012345678901")},
		DeviceID:     "0000:01:10.2",
	}, {
		Namespace: "blue", Name: "b", Interface: "old", DefaultRoute: []netip.Addr{}, IPAMClaim: "vm.net",
	}, {
		Namespace: "blue", Name: "b", MAC: "00:11:22:33:44:55:66:77:88:99:00:11:22:33:44:55:66:77:88:99",
	}}
	got, err := netconf.ParseSelections(in, "blue")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, compare); diff != "" {
		t.Error(diff)
	}
	if got, err := netconf.ParseSelections("[]", "blue"); err != nil || len(got) != 0 {
		t.Errorf("[]: %v %v", got, err)
	}
	// The journal keeps the difference between [] and nothing.
	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var back []netconf.Element
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, back, compare); diff != "" {
		t.Error(diff)
	}
}

func TestParseDefaultNetwork(t *testing.T) {
	for _, in := range []string{"cbr", "kube-system/cbr", `[{"name":"cbr"}]`} {
		e, err := netconf.ParseDefaultNetwork(in, "kube-system")
		if err != nil || e.Ref() != "kube-system/cbr" {
			t.Errorf("%s: %v %v", in, e, err)
		}
	}
	for in, value := range map[string]string{"": `""`, "a,b": `"a,b"`, "[]": `"[]"`} {
		_, err := netconf.ParseDefaultNetwork(in, "kube-system")
		wantRefusal(t, in, err, "", value)
	}
	_, err := netconf.ParseDefaultNetwork("a@b@c", "kube-system")
	wantRefusal(t, "a@b@c", err, "[0]", `"a@b@c"`)
}

func FuzzParseSelections(f *testing.F) {
	for _, s := range []string{
		"a,b/c@eth1", " red / a @ Up1 , b", "a@b@c", `[{"name":"a","ips":["10.0.0.1/24"],"portMappings":[{"hostPort":1,"containerPort":2}]}]`,
		`[{"name":"a","bandwidth":{"ingressRate":1},"default-route":[],"cni-args":{"a":{}}}]`, `[{"name":"a"},`, "[[]]", "\"\f",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		all, err := netconf.ParseSelections(in, "blue")
		if err != nil {
			wantWhole(t, in, err)
			var at netconf.Position
			if !errors.As(err, &at) || at.Byte < 0 || at.Byte > len(in) {
				t.Fatalf("%q: no position in %v", in, err)
			}
			return
		}
		for _, e := range all {
			if e.Name == "" || e.Namespace == "" || e.Interface != "" && !netconf.ValidIfName(e.Interface) {
				t.Fatalf("%q: %+v", in, e)
			}
			if len(netconf.Undeclared(netconf.Network{}, e)) < len(netconf.RuntimeConfig(netconf.Plugin{Capabilities: map[string]bool{"ips": true, "mac": true, "portMappings": true, "bandwidth": true, "infinibandGUID": true}}, e)) {
				t.Fatalf("%q: more arguments than requests in %+v", in, e)
			}
		}
	})
}
