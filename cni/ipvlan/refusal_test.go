package ipvlan_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/ipvlan"
	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/cni/netns/netnstest"
	"github.com/tendril-cni/tendril/cni/refusal"
)

func TestMain(m *testing.M) { netnstest.Main(m) }

var _ cni.Driver = (*ipvlan.Driver)(nil)

func driver() *ipvlan.Driver { return ipvlan.New(slog.New(slog.DiscardHandler)) }

var ctx = context.Background()

// attachment is a pod's net1 on network blue/storage with that configuration.
func attachment(conf string, args ...any) cni.Attachment {
	raw := json.RawMessage(fmt.Sprintf(conf, args...))
	return cni.Attachment{
		ContainerID: netnstest.Name("container"), IfName: "net1", Pod: cni.PodRef{Namespace: "blue", Name: "web"},
		Network: "blue/storage", Kind: cni.KindIpvlan,
		Config:  netconf.Network{Name: "storage", CNIVersion: "1.0.0", Plugins: []netconf.Plugin{{Type: "ipvlan", Raw: raw}}},
		Vouched: true,
	}
}

// refused checks that err is a refusal of field and that its text has the words.
func refused(t *testing.T, err error, field string, words ...string) {
	t.Helper()
	var r *refusal.Refusal
	if !errors.As(err, &r) || r.Field != field || r.Object == "" || r.Allowed == "" {
		t.Errorf("got %v, want a refusal of field %s", err, field)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("the refusal does not say %q: %v", w, err)
		}
	}
}

// TestInvariant9PriorRefuses needs no ipvlan in the kernel.
func TestInvariant9PriorRefuses(t *testing.T) {
	master, _ := netnstest.Veth(t)
	name := master.Attrs().Name
	port, _ := netnstest.Veth(t)
	h := netnstest.Handle(t, nil)
	br := netlink.NewLinkAttrs()
	br.Name = netnstest.Name("br")
	bridge := &netlink.Bridge{LinkAttrs: br}
	if err := errors.Join(h.LinkAdd(bridge), h.LinkSetMaster(port, bridge)); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		conf, mac, field string
		words            []string
	}{
		"master unknown": {`{"master":"nosuch0"}`, "", "master", []string{"blue/storage", "nosuch0", "on the host", br.Name}},
		"no default":     {`{}`, "", "master", []string{"no default route"}},
		"bridge port":    {`{"master":"` + port.Attrs().Name + `"}`, "", "master", []string{br.Name}},
		"mtu":            {`{"master":"` + name + `","mtu":1501}`, "", "mtu", []string{"1501", "0..1500", name}},
		"negative mtu":   {`{"master":"` + name + `","mtu":-1}`, "", "mtu", []string{"-1"}},
		"mode":           {`{"master":"` + name + `","mode":"l4"}`, "", "mode", []string{"l4", "l3s"}},
		"mac":            {`{"master":"` + name + `"}`, "02:00:00:00:00:01", "mac", []string{"02:00:00:00:00:01", "macvlan"}},
	}
	for what, test := range tests {
		t.Run(what, func(t *testing.T) {
			a := attachment("%s", test.conf)
			a.MAC = test.mac
			_, err := driver().Prior(ctx, a)
			refused(t, err, test.field, test.words...)
		})
	}
}

func TestDetachWithoutTheNamespaceIsDone(t *testing.T) {
	r := cni.Record{Attachment: attachment(`{"master":"nosuch0"}`)}
	for _, ns := range []*os.File{nil, netnstest.Pod(t)} {
		if err := driver().Detach(ctx, ns, r); err != nil {
			t.Errorf("Detach with namespace %v: %v", ns, err)
		}
	}
}
