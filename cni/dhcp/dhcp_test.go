package dhcp_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/server4"
	"github.com/vishvananda/netlink"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/dhcp"
	"github.com/tendril-cni/tendril/cni/macvlan"
	"github.com/tendril-cni/tendril/cni/netns/netnstest"
	"github.com/tendril-cni/tendril/cni/refusal"
)

func TestMain(m *testing.M) { netnstest.Main(m) }

var (
	ctx  = context.Background()
	mute = slog.New(slog.DiscardHandler)
)

// server lends 192.0.2.10, .11 ... on the wire and remembers who said what.
type server struct {
	term time.Duration
	// mu guards what follows.
	mu       sync.Mutex
	leases   map[string]net.IP // by client ID
	released []string
	asked    []*dhcpv4.DHCPv4
}

// serve makes a master with a server on its wire, and a pod with a macvlan.
func serve(t *testing.T, term time.Duration) (*server, *os.File) {
	t.Helper()
	master, wire := netnstest.Veth(t)
	h := netnstest.Handle(t, nil)
	a, _ := netlink.ParseAddr("192.0.2.1/24")
	if err := h.AddrAdd(wire, a); err != nil {
		t.Fatal(err)
	}
	s := &server{term: term, leases: map[string]net.IP{}}
	srv, err := server4.NewServer(wire.Attrs().Name, &net.UDPAddr{Port: 67}, s.answer)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve() }()
	t.Cleanup(func() { _ = srv.Close(); <-done; _ = h.AddrDel(wire, a) })
	pod := netnstest.Pod(t)
	netnstest.MustAttach(t, macvlan.New(mute), pod, netnstest.Attachment("macvlan", `{"master":"`+master.Attrs().Name+`"}`))
	return s, pod
}

func (s *server) answer(conn net.PacketConn, _ net.Addr, m *dhcpv4.DHCPv4) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := string(m.Options.Get(dhcpv4.OptionClientIdentifier))
	s.asked = append(s.asked, m)
	kind := dhcpv4.MessageTypeAck
	switch m.MessageType() {
	case dhcpv4.MessageTypeRelease:
		s.released = append(s.released, id)
		return
	case dhcpv4.MessageTypeDiscover:
		kind = dhcpv4.MessageTypeOffer
	}
	if s.leases[id] == nil {
		s.leases[id] = net.IPv4(192, 0, 2, byte(10+len(s.leases)))
	}
	r, err := dhcpv4.NewReplyFromRequest(m, dhcpv4.WithMessageType(kind), dhcpv4.WithYourIP(s.leases[id]),
		dhcpv4.WithServerIP(net.IPv4(192, 0, 2, 1)), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(192, 0, 2, 1))),
		dhcpv4.WithNetmask(net.CIDRMask(24, 32)), dhcpv4.WithRouter(net.IPv4(192, 0, 2, 1)), dhcpv4.WithDNS(net.IPv4(192, 0, 2, 53)),
		dhcpv4.WithLeaseTime(uint32(s.term/time.Second)))
	if err != nil {
		return
	}
	_, _ = conn.WriteTo(r.ToBytes(), &net.UDPAddr{IP: net.IPv4bcast, Port: 68})
}

func (s *server) count(kind dhcpv4.MessageType) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.asked {
		if m.MessageType() == kind {
			n++
		}
	}
	return n
}

// until polls a condition.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("timed out waiting until " + what)
		}
	}
}

func request(container string) dhcp.Request {
	return dhcp.Request{ClientID: dhcp.ClientID(container, "blue", "net1"), IfName: "net1", Wanted: []uint8{1, 3, 6}, Options: map[uint8]string{12: "web"}}
}

func TestLeaseSaysWhatTheServerSays(t *testing.T) {
	s, pod := serve(t, time.Hour)
	l, err := dhcp.Acquire(ctx, pod, request("c1"))
	if err != nil {
		t.Fatal(err)
	}
	type said struct {
		Address cni.Address
		Routes  []cni.Route
		DNS     []netip.Addr
	}
	gw := netip.MustParseAddr("192.0.2.1")
	want := said{cni.Address{Prefix: netip.MustParsePrefix("192.0.2.10/24"), Gateway: gw},
		[]cni.Route{{Dst: netip.MustParsePrefix("0.0.0.0/0"), Via: gw}}, []netip.Addr{netip.MustParseAddr("192.0.2.53")}}
	if diff := cmp.Diff(want, said{l.Address, l.Routes, l.Nameservers}, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if again, err := dhcp.Renew(ctx, pod, request("c1"), l); err != nil || again.Address != l.Address {
		t.Errorf("renewed %v, %v", again.Address, err)
	}
	s.mu.Lock()
	for _, m := range s.asked {
		if !m.IsBroadcast() || m.HostName() != "web" {
			t.Errorf("asked %s", m.Summary())
		}
	}
	s.mu.Unlock()
	if err := dhcp.Release(pod, request("c1"), l); err != nil {
		t.Fatal(err)
	}
	until(t, "the server has it back", func() bool { return s.count(dhcpv4.MessageTypeRelease) == 1 })
	s.mu.Lock()
	defer s.mu.Unlock()
	if id := "\x00c1/blue/net1"; s.leases[id] == nil || s.released[0] != id {
		t.Errorf("leases %v, released %q", s.leases, s.released)
	}
}

// records is a Store in memory.
type records struct {
	mu sync.Mutex // guards m
	m  map[string]dhcp.Kept
}

func (r *records) Save(k dhcp.Kept) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.m[k.Request.ClientID] = k
	return nil
}

func (r *records) Forget(id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.m, id)
	return nil
}

func (r *records) all() (out []dhcp.Kept) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, k := range r.m {
		out = append(out, k)
	}
	return out
}

// TestKeptOverARestart: renewals go on in a new Keeper that knows the records.
func TestKeptOverARestart(t *testing.T) {
	s, pod := serve(t, 4*time.Second)
	store := &records{m: map[string]dhcp.Kept{}}
	first := dhcp.NewKeeper(store, mute)
	l, err := first.Acquire(ctx, pod, "c1", "path", request("c1"))
	if err != nil {
		t.Fatal(err)
	}
	if again, err := first.Acquire(ctx, pod, "c1", "path", request("c1")); err != nil || again.Address != l.Address || s.count(dhcpv4.MessageTypeDiscover) != 1 {
		t.Errorf("asked twice: %v, %v", again.Address, err)
	}
	asked := s.count(dhcpv4.MessageTypeRequest)
	until(t, "it is renewed", func() bool { return s.count(dhcpv4.MessageTypeRequest) > asked })
	first.Close()
	second := dhcp.NewKeeper(store, mute)
	defer second.Close()
	for _, k := range store.all() {
		if err := second.Keep(pod, k); err != nil {
			t.Fatal(err)
		}
	}
	asked = s.count(dhcpv4.MessageTypeRequest)
	until(t, "it is renewed by the new one", func() bool { return s.count(dhcpv4.MessageTypeRequest) > asked })
	id := request("c1").ClientID
	for range 2 {
		if err := second.Drop(pod, id); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "the server has it back", func() bool { return s.count(dhcpv4.MessageTypeRelease) == 1 })
	if len(store.all()) != 0 || second.Kept(id) {
		t.Error("the record is left")
	}
}

// TestInterfaceGone: the keeping ends, and Drop is done.
func TestInterfaceGone(t *testing.T) {
	_, pod := serve(t, 2*time.Second)
	store := &records{m: map[string]dhcp.Kept{}}
	k := dhcp.NewKeeper(store, mute)
	if _, err := k.Acquire(ctx, pod, "c1", "path", request("c1")); err != nil {
		t.Fatal(err)
	}
	h := netnstest.Handle(t, pod)
	if err := h.LinkDel(netnstest.Link(t, h, "net1")); err != nil {
		t.Fatal(err)
	}
	if err := k.Drop(pod, request("c1").ClientID); err != nil {
		t.Error(err)
	}
	k.Close()
	if len(store.all()) != 0 {
		t.Error("the record is left")
	}
}

func TestExpiredLeaseTakesTheInterfaceDown(t *testing.T) {
	s, pod := serve(t, 2*time.Second)
	k := dhcp.NewKeeper(&records{m: map[string]dhcp.Kept{}}, mute)
	defer k.Close()
	if _, err := k.Acquire(ctx, pod, "c1", "path", request("c1")); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock() // the server answers nobody from now on
	defer s.mu.Unlock()
	h := netnstest.Handle(t, pod)
	until(t, "the interface is down", func() bool { return netnstest.Link(t, h, "net1").Attrs().Flags&net.FlagUp == 0 })
}

func TestParse(t *testing.T) {
	r, err := dhcp.Parse([]byte(`{"type":"dhcp","priority":5,"provide":[{"option":"host-name","fromArg":"K8S_POD_NAME"},{"option":"60","value":"tendril"}],"request":[{"skipDefault":true},{"option":"routers"}]}`),
		map[string]string{"K8S_POD_NAME": "web"})
	want := dhcp.Request{Priority: 5, Options: map[uint8]string{12: "web", 60: "tendril"}, Wanted: []uint8{3}}
	if diff := cmp.Diff(want, r); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	for name, test := range map[string]struct{ conf, field string }{
		"option":   {`{"provide":[{"option":"banana","value":"1"}]}`, "ipam.provide[0].option"},
		"pad":      {`{"request":[{"option":"0"}]}`, "ipam.request[0].option"},
		"priority": {`{"priority":-1}`, "ipam.priority"},
		"type":     {`{"provide":1}`, "ipam"},
	} {
		if _, err := dhcp.Parse([]byte(test.conf), nil); err == nil {
			t.Errorf("%s: accepted", name)
		} else {
			refusedField(t, err, test.field)
		}
	}
}

func refusedField(t *testing.T, err error, field string) {
	t.Helper()
	var r *refusal.Refusal
	if !errors.As(err, &r) || r.Field != field || r.Allowed == "" {
		t.Errorf("got %v, want a refusal of %s", err, field)
	}
}
