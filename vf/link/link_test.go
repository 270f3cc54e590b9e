package link_test

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/tendril-cni/tendril/cni/refusal"
	"github.com/tendril-cni/tendril/vf/link"
	"github.com/tendril-cni/tendril/vf/link/linktest"
)

var target = link.Target{PF: "sriov0", Driver: "igb", Index: 3}

const own, other = "02:00:00:00:00:01", "02:00:00:00:00:02"

func ptr[T any](v T) *T { return &v }

func texts(steps []link.Step) (out []string) {
	for _, s := range steps {
		out = append(out, s.String())
	}
	return out
}

func TestPlan(t *testing.T) {
	fresh := linktest.New(own).Attr
	silent := fresh
	silent.SpoofChk, silent.Trust = nil, nil
	all := link.Change{
		LinkState: ptr(link.StateEnable), Trust: ptr(true), SpoofChk: ptr(false), Rates: &link.Rates{Min: 1, Max: 50},
		MAC: ptr(other), VLAN: &link.VLAN{ID: 100, QoS: 3, Proto: link.Proto8021Q},
	}
	rows := []struct {
		name    string
		current link.Attributes
		wanted  link.Change
		want    []string
	}{
		{"nothing asked", fresh, link.Change{}, nil},
		{"all, in the drivers' order", fresh, all, []string{
			"vlan 100 qos 3 proto 802.1q", "mac " + other, "max_tx_rate 50 min_tx_rate 1", "spoofchk off", "trust on", "state enable"}},
		{"there already", fresh, link.Change{VLAN: &fresh.VLAN, Rates: &fresh.Rates, SpoofChk: ptr(true), Trust: ptr(false), LinkState: ptr("auto")}, nil},
		{"an equal MAC is written", fresh, link.Change{MAC: ptr(own)}, []string{"mac " + own}},
		{"what the driver does not report is written", silent, link.Change{SpoofChk: ptr(true), Trust: ptr(false)}, []string{"spoofchk on", "trust off"}},
		{"vlan 0 takes the tag off", link.Attributes{VLAN: link.VLAN{ID: 5, Proto: link.Proto8021Q}}, link.Change{VLAN: &link.VLAN{Proto: link.Proto8021Q}},
			[]string{"vlan 0 qos 0 proto 802.1q"}},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			if d := cmp.Diff(r.want, texts(link.Plan(r.current, r.wanted))); d != "" {
				t.Errorf("steps (-want +got):\n%s", d)
			}
		})
	}
}

func TestApply(t *testing.T) {
	c := link.Change{VLAN: &link.VLAN{ID: 7, Proto: link.Proto8021Q}, MAC: ptr(other), Trust: ptr(true)}
	const want = "netdev " + own + " pf " + other + " locked true vlan 7/0/802.1q rates 0/0 spoofchk true trust true state auto"
	g := linktest.New(own)
	g.Busy = 2
	if err := link.ApplyTo(context.Background(), g, target, c); err != nil {
		t.Fatal(err)
	}
	if g.String() != want {
		t.Errorf("got  %s\nwant %s", g, want)
	}
	c.MAC, g.Writes = nil, nil
	if err := link.ApplyTo(context.Background(), g, target, c); err != nil || len(g.Writes) > 0 {
		t.Errorf("second time: %v, wrote %v", err, g.Writes)
	}
}

func TestApplyFindsWhatTheDriverForgot(t *testing.T) {
	g := linktest.New(own)
	g.Deaf = link.FieldVLAN
	ctx, cancel := context.WithCancel(context.Background())
	g.Fail = func(string) error { cancel(); return nil } // no need to wait for a late driver
	err := link.ApplyTo(ctx, g, target, link.Change{VLAN: &link.VLAN{ID: 7, Proto: link.Proto8021Q}})
	if err == nil || !strings.Contains(err.Error(), "vlan 0 qos 0 proto 802.1q (wanted vlan 7") {
		t.Errorf("got %v", err)
	}
}

func TestInvariant9RefusalsNameDriverFieldAndValue(t *testing.T) {
	rows := []struct {
		name  string
		c     link.Change
		field string
		parts []string
		errno error
	}{
		{"protocol", link.Change{VLAN: &link.VLAN{ID: 7, Proto: link.Proto8021AD}}, "vlanProto", []string{"802.1ad", "802.1q"}, unix.EPROTONOSUPPORT},
		{"multicast MAC", link.Change{MAC: ptr("01:00:5e:00:00:01")}, "mac", []string{"01:00:5e:00:00:01", "unicast"}, unix.EINVAL},
		{"guaranteed rate", link.Change{Rates: &link.Rates{Min: 10, Max: 20}}, "min_tx_rate", []string{"10 Mbit/s"}, unix.EINVAL},
		{"link state", link.Change{LinkState: ptr(link.StateDisable)}, "link_state", []string{"disable", "leave the field out"}, unix.EOPNOTSUPP},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			g := linktest.New(own)
			before := g.String()
			err := link.ApplyTo(context.Background(), g, target, r.c)
			var ref *refusal.Refusal
			if !errors.As(err, &ref) || ref.Field != r.field || !errors.Is(err, r.errno) {
				t.Fatalf("got %v", err)
			}
			for _, p := range append(r.parts, "VF 3 of PF sriov0 (driver igb)") {
				if !strings.Contains(ref.Error(), p) {
					t.Errorf("%q does not say %q", ref, p)
				}
			}
			if g.String() != before {
				t.Errorf("refused, yet now %s", g)
			}
		})
	}
}

func TestErrorsThatAreNoRefusals(t *testing.T) {
	g := linktest.New(own)
	g.Fail = func(string) error { return unix.EPERM }
	err := link.ApplyTo(context.Background(), g, target, link.Change{Trust: ptr(true)})
	var ref *refusal.Refusal
	if errors.As(err, &ref) || !errors.Is(err, unix.EPERM) {
		t.Errorf("got %v", err)
	}
}

func TestMissing(t *testing.T) {
	seen := linktest.New(own).Attr
	if m := link.Missing(seen, link.Change{MAC: ptr(link.ZeroMAC)}); len(m) > 0 {
		t.Errorf("a VF that announced its own address after zeros: %v", m)
	}
	if m := link.Missing(seen, link.Change{MAC: ptr(other)}); len(m) != 1 {
		t.Errorf("another MAC: %v", m)
	}
	seen.Trust = nil
	if m := link.Missing(seen, link.Change{Trust: ptr(true)}); len(m) > 0 {
		t.Errorf("unreported trust: %v", m)
	}
}

// nla writes one netlink attribute.
func nla(kind uint16, value ...[]byte) []byte {
	var v []byte
	for _, x := range value {
		v = append(v, x...)
	}
	b := binary.NativeEndian.AppendUint16(nil, uint16(4+len(v)))
	b = append(binary.NativeEndian.AppendUint16(b, kind), v...)
	return append(b, make([]byte, (4-len(b)%4)%4)...)
}

func u32s(v ...uint32) (b []byte) {
	for _, x := range v {
		b = binary.NativeEndian.AppendUint32(b, x)
	}
	return b
}

// list is an answer with two VFs, in an order that is not that of their indexes,
// the first without spoofchk and trust, the second with all and an 802.1ad tag.
func list() []byte {
	mac := func(vf uint32, last byte) []byte {
		return nla(1, u32s(vf), []byte{2, 0, 0, 0, 0, last}, make([]byte, 26))
	}
	five := nla(1, mac(5, 5), nla(2, u32s(5, 0, 0)), nla(4, u32s(5, 0xffffffff)), nla(9, u32s(5, 0xffffffff)), nla(5, u32s(5, 0)))
	one := nla(1, mac(1, 1), nla(2, u32s(1, 100, 3)), nla(6, u32s(1, 10, 200)), nla(4, u32s(1, 1)), nla(9, u32s(1, 0)), nla(5, u32s(1, 2)),
		nla(12, nla(1, u32s(1, 100, 3), []byte{0x88, 0xa8, 0, 0})))
	return append(nla(3, []byte("sriov0\x00")), nla(22, five, one)...)
}

func TestParseLink(t *testing.T) {
	one, err := link.ParseLink(list(), 1)
	want := link.Attributes{
		MAC: "02:00:00:00:00:01", VLAN: link.VLAN{ID: 100, QoS: 3, Proto: link.Proto8021AD}, Rates: link.Rates{Min: 10, Max: 200},
		SpoofChk: ptr(true), Trust: ptr(false), LinkState: link.StateDisable,
	}
	if d := cmp.Diff(want, one); err != nil || d != "" {
		t.Errorf("VF 1: %v (-want +got):\n%s", err, d)
	}
	five, err := link.ParseLink(list(), 5)
	if err != nil || five.MAC != "02:00:00:00:00:05" || five.SpoofChk != nil || five.Trust != nil || five.VLAN.Proto != link.Proto8021Q {
		t.Errorf("VF 5: %+v, %v", five, err)
	}
	if _, err := link.ParseLink(list(), 0); !errors.Is(err, link.ErrNoVF) {
		t.Errorf("VF 0: %v", err)
	}
}

func FuzzParseLink(f *testing.F) {
	f.Add(list(), 1)
	f.Add(list()[:60], 5)
	f.Add([]byte{3, 0, 0, 0}, 0)
	for _, s := range []string{"ffff1600", "04001600", "08001600040001000000"} {
		b, _ := hex.DecodeString(s)
		f.Add(b, 0)
	}
	f.Fuzz(func(t *testing.T, b []byte, index int) {
		a, err := link.ParseLink(b, index)
		if err == nil && (a.MAC == "" || a.LinkState == "" || a.VLAN.Proto == "") {
			t.Errorf("%+v", a)
		}
	})
}
