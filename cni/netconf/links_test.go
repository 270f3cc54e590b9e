package netconf_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tendril-cni/tendril/cni/netconf"
)

func plugin(in string) netconf.Plugin { return netconf.Plugin{Raw: json.RawMessage(in)} }

func to[T any](v T) *T { return &v }

func TestParseMacvlan(t *testing.T) {
	for in, want := range map[string]netconf.Macvlan{
		`{"type":"macvlan"}`: {Mode: "bridge"},
		`{"mode":"","mtu":0,"bcqueuelen":null,"promisc":true}`: {Mode: "bridge"},
		`{"master":"eth0","mode":"passthru","mtu":9000,"mac":"02-00-00-00-00-0A","linkInContainer":true,"bcqueuelen":4294967295}`: {
			Master: "eth0", Mode: "passthru", MTU: 9000, MAC: "02:00:00:00:00:0a", LinkInContainer: true, BcQueueLen: 4294967295},
		`{"MASTER":"enp3s0f0np0-an-alternative-name","Mode":"vepa","MAC":"0200.0000.0001"}`: {
			Master: "enp3s0f0np0-an-alternative-name", Mode: "vepa", MAC: "02:00:00:00:00:01"},
	} {
		got, err := netconf.ParseMacvlan(plugin(in))
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%s: %v %s", in, err, diff)
		}
	}
	for _, tt := range []struct{ in, field, value string }{
		{`{"mode":"source"}`, "mode", `"source"`},
		{`{"mode":1}`, "mode", "1"},
		{`{"mtu":-1}`, "mtu", "-1"},
		{`{"mtu":1.5}`, "mtu", "1.5"},
		{`{"mtu":"9000"}`, "mtu", `"9000"`},
		{`{"mtu":65536}`, "mtu", "65536"},
		{`{"mac":"x"}`, "mac", `"x"`},
		{`{"mac":"01:00:5e:00:00:01"}`, "mac", `"01:00:5e:00:00:01"`},
		{`{"mac":"00:00:00:00:00:00"}`, "mac", `"00:00:00:00:00:00"`},
		{`{"mac":"02:00:00:00:00:00:00:01"}`, "mac", `"02:00:00:00:00:00:00:01"`},
		{`{"bcqueuelen":4294967296}`, "bcqueuelen", "4294967296"},
		{`{"linkInContainer":"yes"}`, "linkInContainer", `"yes"`},
		{`{"master":"a/b"}`, "master", `"a/b"`},
		{`{"master":["eth0"]}`, "master", `["eth0"]`},
	} {
		_, err := netconf.ParseMacvlan(plugin(tt.in))
		wantRefusal(t, tt.in, err, tt.field, tt.value)
	}
}

func TestParseIpvlan(t *testing.T) {
	for in, want := range map[string]netconf.Ipvlan{
		`{"type":"ipvlan"}`: {Mode: "l2", Flag: "bridge"},
		`{"master":"eth0","mode":"l3s","mtu":1400,"linkInContainer":true,"mac":"ignored"}`: {Master: "eth0", Mode: "l3s", Flag: "bridge", MTU: 1400, LinkInContainer: true},
	} {
		got, err := netconf.ParseIpvlan(plugin(in))
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%s: %v %s", in, err, diff)
		}
	}
	for _, tt := range []struct{ in, field, value string }{
		{`{"mode":"L2"}`, "mode", `"L2"`},
		{`{"mtu":-1500}`, "mtu", "-1500"},
		{`[]`, "", "[]"},
	} {
		_, err := netconf.ParseIpvlan(plugin(tt.in))
		wantRefusal(t, tt.in, err, tt.field, tt.value)
	}
}

func TestParseSriov(t *testing.T) {
	for in, want := range map[string]netconf.Sriov{
		`{"type":"sriov","deviceID":"0000:01:10.2","logLevel":"debug","Master":"eth9","OrigVfState":{}}`: {},
		`{"spoofchk":"","trust":null,"link_state":"","mac":""}`:                                          {},
		`{"vlan":0}`: {VLAN: to(0), QoS: to(0), Proto: to("802.1q")},
		`{"vlan":0,"vlanQoS":0,"vlanProto":"802.1Q"}`:     {VLAN: to(0), QoS: to(0), Proto: to("802.1q")},
		`{"vlan":4094,"vlanQoS":7,"vlanProto":"802.1AD"}`: {VLAN: to(4094), QoS: to(7), Proto: to("802.1ad")},
		`{"MAC":"CA:FE:C0:FF:EE:00"}`:                     {MAC: "ca:fe:c0:ff:ee:00"},
		`{"spoofchk":"off","trust":"on"}`:                 {SpoofChk: to(false), Trust: to(true)},
		`{"link_state":"enable","mtu":9000}`:              {LinkState: to("enable"), MTU: 9000},
		`{"min_tx_rate":100}`:                             {MinTxRate: to(100), MaxTxRate: to(0)},
		`{"max_tx_rate":0}`:                               {MinTxRate: to(0), MaxTxRate: to(0)},
		`{"min_tx_rate":100,"max_tx_rate":100}`:           {MinTxRate: to(100), MaxTxRate: to(100)},
		`{"vlan":5,"VLAN":6}`:                             {VLAN: to(6), QoS: to(0), Proto: to("802.1q")},
	} {
		got, err := netconf.ParseSriov(plugin(in))
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%s: %v %s", in, err, diff)
		}
	}
	for _, tt := range []struct{ in, field, value string }{
		{`{"vlan":4095}`, "vlan", "4095"},
		{`{"vlan":-1}`, "vlan", "-1"},
		{`{"vlan":"100"}`, "vlan", `"100"`},
		{`{"vlan":5,"vlanQoS":8}`, "vlanQoS", "8"},
		{`{"vlanQoS":0}`, "vlanQoS", "0"},
		{`{"vlan":0,"vlanQoS":1}`, "vlanQoS", "1"},
		{`{"vlanProto":"802.1q"}`, "vlanProto", `"802.1q"`},
		{`{"vlan":5,"vlanProto":"802.1x"}`, "vlanProto", `"802.1x"`},
		{`{"vlan":5,"vlanProto":""}`, "vlanProto", `""`},
		{`{"vlan":0,"vlanProto":"802.1ad"}`, "vlanProto", `"802.1ad"`},
		{`{"spoofchk":"On"}`, "spoofchk", `"On"`},
		{`{"trust":true}`, "trust", "true"},
		{`{"link_state":"up"}`, "link_state", `"up"`},
		{`{"min_tx_rate":-1}`, "min_tx_rate", "-1"},
		{`{"min_tx_rate":200,"max_tx_rate":100}`, "min_tx_rate", "200"},
		{`{"max_tx_rate":4294967296}`, "max_tx_rate", "4294967296"},
		{`{"mac":"33:33:00:00:00:01"}`, "mac", `"33:33:00:00:00:01"`},
	} {
		_, err := netconf.ParseSriov(plugin(tt.in))
		wantRefusal(t, tt.in, err, tt.field, tt.value)
	}
}

func FuzzParseLinks(f *testing.F) {
	for _, s := range []string{
		`{"master":"eth0","mode":"l3","mtu":1400,"mac":"02:00:00:00:00:01"}`,
		`{"vlan":5,"vlanQoS":3,"vlanProto":"802.1ad","spoofchk":"on","min_tx_rate":1,"max_tx_rate":2}`,
		`{"vlan":1e2}`, `{"mtu":-0}`, `null`, `{`, "t ",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		if m, err := netconf.ParseMacvlan(plugin(in)); err != nil {
			wantWhole(t, in, err)
		} else if m.Mode == "" || m.MTU < 0 {
			t.Fatalf("%q: %+v", in, m)
		}
		if v, err := netconf.ParseIpvlan(plugin(in)); err != nil {
			wantWhole(t, in, err)
		} else if v.Mode == "" || v.MTU < 0 {
			t.Fatalf("%q: %+v", in, v)
		}
		s, err := netconf.ParseSriov(plugin(in))
		if err != nil {
			wantWhole(t, in, err)
			return
		}
		if (s.VLAN == nil) != (s.QoS == nil) || (s.VLAN == nil) != (s.Proto == nil) || (s.MinTxRate == nil) != (s.MaxTxRate == nil) {
			t.Fatalf("%q: half a setting in %+v", in, s)
		}
	})
}
