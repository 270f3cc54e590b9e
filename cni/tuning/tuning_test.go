package tuning_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/macvlan"
	"github.com/tendril-cni/tendril/cni/netns"
	"github.com/tendril-cni/tendril/cni/netns/netnstest"
	"github.com/tendril-cni/tendril/cni/tuning"
)

func TestMain(m *testing.M) { netnstest.Main(m) }

var (
	_    cni.Modifier = (*tuning.Modifier)(nil)
	ctx               = context.Background()
	mute              = slog.New(slog.DiscardHandler)
)

func modifier() *tuning.Modifier { return tuning.New("/nonexistent", mute) }

// tuned makes a pod with a macvlan.
func pod(t *testing.T) (*os.File, cni.Record) {
	t.Helper()
	master, _ := netnstest.Veth(t)
	ns := netnstest.Pod(t)
	return ns, netnstest.MustAttach(t, macvlan.New(mute), ns, netnstest.Attachment("macvlan", `{"master":"`+master.Attrs().Name+`"}`))
}

func sysctl(t *testing.T, ns *os.File, key string) string {
	t.Helper()
	var b []byte
	err := netns.Do(ns, func() (err error) {
		b, err = os.ReadFile("/proc/sys/" + key)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

const everything = `{"mac":"02:00:00:00:00:09","mtu":1300,"promisc":true,"allmulti":true,"txQLen":77,
	"sysctl":{"net.ipv4.conf.IFNAME.arp_filter":"1","net.ipv4.ip_local_port_range":"2000\t3000","net/core/somaxconn":"512"}}`

func TestEverythingIsSetAndGivenBack(t *testing.T) {
	ns, r := pod(t)
	m, h := modifier(), netnstest.Handle(t, ns)
	was, range0, filter0 := netnstest.Link(t, h, "net1").Attrs(), sysctl(t, ns, "net/ipv4/ip_local_port_range"), sysctl(t, ns, "net/ipv4/conf/net1/arp_filter")
	tuned, err := netnstest.Modify(m, ns, r, "tuning", everything)
	if err != nil {
		t.Fatal(err)
	}
	l := netnstest.Link(t, h, "net1").Attrs()
	if l.HardwareAddr.String() != "02:00:00:00:00:09" || l.MTU != 1300 || l.Promisc == 0 || l.RawFlags&unix.IFF_ALLMULTI == 0 || l.TxQLen != 77 {
		t.Errorf("kernel has %+v", l)
	}
	if tuned.Link.MAC != "02:00:00:00:00:09" || tuned.Link.MTU != 1300 {
		t.Errorf("observed %+v", tuned.Link)
	}
	if sysctl(t, ns, "net/ipv4/conf/net1/arp_filter") != "1" || sysctl(t, ns, "net/ipv4/ip_local_port_range") != "2000\t3000" || sysctl(t, ns, "net/core/somaxconn") != "512" {
		t.Error("kernel parameters are not set")
	}
	if err := m.Check(ctx, ns, tuned); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := m.Detach(ctx, ns, tuned); err != nil {
			t.Fatal(err)
		}
	}
	now := netnstest.Link(t, h, "net1").Attrs()
	if now.HardwareAddr.String() != was.HardwareAddr.String() || now.MTU != was.MTU || now.Promisc != 0 || now.RawFlags&unix.IFF_ALLMULTI != 0 || now.TxQLen != was.TxQLen {
		t.Errorf("kernel has %+v, had %+v", now, was)
	}
	if sysctl(t, ns, "net/ipv4/ip_local_port_range") != range0 || sysctl(t, ns, "net/ipv4/conf/net1/arp_filter") != filter0 {
		t.Error("kernel parameters are not given back")
	}
	if err := m.Check(ctx, ns, tuned); err == nil {
		t.Error("Check sees no difference")
	}
}

// TestCheckReadsParametersAsTheKernelWritesThem: one with several values shows them
// with tabs, however they were written.
func TestCheckReadsParametersAsTheKernelWritesThem(t *testing.T) {
	ns, r := pod(t)
	m := modifier()
	tuned, err := netnstest.Modify(m, ns, r, "tuning", `{"sysctl":{"net.ipv4.ip_local_port_range":"2000 3000"}}`)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Check(ctx, ns, tuned); err != nil {
		t.Error(err)
	}
}

// TestDetachOfAnIntent: the daemon died in the middle; what was not set yet is
// given back all the same.
func TestDetachOfAnIntent(t *testing.T) {
	ns, r := pod(t)
	m := modifier()
	_, err := netnstest.Modify(m, ns, r, "tuning", `{"txQLen":77,"mtu":70000000}`)
	netnstest.Refused(t, err, "mtu")
	tuned, err := netnstest.Modify(m, ns, r, "tuning", `{"promisc":true,"mtu":9000}`) // above the master's
	netnstest.Refused(t, err, "mtu", "9000", "net1")
	if err := m.Detach(ctx, ns, tuned); err != nil {
		t.Fatal(err)
	}
	if l := netnstest.Link(t, netnstest.Handle(t, ns), "net1").Attrs(); l.Promisc != 0 {
		t.Errorf("promisc is left: %+v", l)
	}
}

func TestGoneIsGivenBack(t *testing.T) {
	ns, r := pod(t)
	m, h := modifier(), netnstest.Handle(t, ns)
	tuned, err := netnstest.Modify(m, ns, r, "tuning", everything)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.LinkDel(netnstest.Link(t, h, "net1")); err != nil {
		t.Fatal(err)
	}
	for _, at := range []*os.File{ns, nil} {
		if err := m.Detach(ctx, at, tuned); err != nil {
			t.Errorf("namespace %v: %v", at, err)
		}
	}
}

// TestFusedChainNotesThePodOnly: the interface is not there yet when the intent
// is recorded.
func TestFusedChainNotesThePodOnly(t *testing.T) {
	ns := netnstest.Pod(t)
	a := netnstest.Attachment("tuning", `{"mtu":1400,"sysctl":{"net.core.somaxconn":"99","net.ipv4.conf.IFNAME.arp_filter":"1"}}`)
	prior, err := modifier().Prior(ctx, ns, a)
	if err != nil {
		t.Fatal(err)
	}
	was := sysctl(t, ns, "net/core/somaxconn")
	master, _ := netnstest.Veth(t)
	b := a
	b.Config = netnstest.Attachment("macvlan", `{"master":"`+master.Attrs().Name+`"}`).Config
	r := netnstest.MustAttach(t, macvlan.New(mute), ns, b)
	r.Attachment, r.Prior = a, prior
	if _, err := modifier().Attach(ctx, ns, r); err != nil {
		t.Fatal(err)
	}
	if err := modifier().Detach(ctx, ns, r); err != nil {
		t.Fatal(err)
	}
	if now := sysctl(t, ns, "net/core/somaxconn"); now != was {
		t.Errorf("somaxconn is %s, was %s", now, was)
	}
}

func TestInvariant9Refusals(t *testing.T) {
	list := filepath.Join(t.TempDir(), "allowlist.conf")
	if err := os.WriteFile(list, []byte("\n ^net.ipv4.conf.IFNAME.[a-z_]*$ \n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ns, r := pod(t)
	for name, test := range map[string]struct {
		conf, list, field string
		words             []string
	}{
		"outside net":   {`{"sysctl":{"kernel.panic":"1"}}`, "", "sysctl", []string{"kernel.panic"}},
		"escape":        {`{"sysctl":{"net/../kernel/panic":"1"}}`, "", "sysctl", nil},
		"twice":         {`{"sysctl":{"net.core.somaxconn":"1","net.core.somaxconn":"2"}}`, "", "sysctl.net.core.somaxconn", []string{"once"}},
		"unknown":       {`{"sysctl":{"net.core.banana":"1"}}`, "", "sysctl.net/core/banana", []string{"banana"}},
		"bad value":     {`{"sysctl":{"net.core.somaxconn":"many"}}`, "", "sysctl.net/core/somaxconn", []string{"many"}},
		"not allowed":   {`{"sysctl":{"net.core.somaxconn":"1"}}`, list, "sysctl", []string{"allowlist.conf"}},
		"negative qlen": {`{"txQLen":-4}`, "", "txQLen", []string{"-4"}},
		"multicast":     {`{"mac":"03:00:00:00:00:00"}`, "", "mac", nil},
	} {
		t.Run(name, func(t *testing.T) {
			tuned, err := netnstest.Modify(tuning.New(test.list, mute), ns, r, "tuning", test.conf)
			netnstest.Refused(t, err, test.field, test.words...)
			if err := modifier().Detach(ctx, ns, tuned); err != nil {
				t.Error(err)
			}
		})
	}
	if _, err := netnstest.Modify(tuning.New(list, mute), ns, r, "tuning", `{"sysctl":{"net.ipv4.conf.IFNAME.arp_filter":"1"}}`); err != nil {
		t.Error(err)
	}
}

// TestArgsWin: args.cni beats runtimeConfig here, and here alone.
// TestArgsWinHoweverAKeyIsWritten: dots and slashes name the same parameter.
func TestArgsWinHoweverAKeyIsWritten(t *testing.T) {
	ns, r := pod(t)
	m := modifier()
	tuned, err := netnstest.Modify(m, ns, r, "tuning", `{"sysctl":{"net/core/somaxconn":"98"},"args":{"cni":{"sysctl":{"net.core.somaxconn":"99"}}}}`)
	if err != nil {
		t.Fatal(err)
	}
	if now := sysctl(t, ns, "net/core/somaxconn"); now != "99" {
		t.Errorf("somaxconn is %s", now)
	}
	if err := m.Check(ctx, ns, tuned); err != nil {
		t.Error(err)
	}
}

func TestArgsWin(t *testing.T) {
	ns, r := pod(t)
	conf := `{"mac":"02:00:00:00:00:01","runtimeConfig":{"mac":"02:00:00:00:00:02"},"args":{"cni":{"mac":"02:00:00:00:00:03","sysctl":{"net.core.somaxconn":"99"}}}}`
	tuned, err := netnstest.Modify(modifier(), ns, r, "tuning", conf)
	if err != nil || tuned.Link.MAC != "02:00:00:00:00:03" {
		t.Errorf("%+v, %v", tuned.Link, err)
	}
}
