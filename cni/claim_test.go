package cni_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/journal"
	"github.com/tendril-cni/tendril/cni/refusal"
	"github.com/tendril-cni/tendril/ipam"
)

// office hands out slots as the API server would confirm them: one for each want.
type office struct {
	journal *journal.Journal
	err     error
	asked   []ipam.NeedSlots
	// suspect makes what it hands out suspect.
	suspect bool
}

func (o *office) Claim(_ context.Context, need *ipam.NeedSlots) error {
	o.asked = append(o.asked, *need)
	if o.err != nil {
		return o.err
	}
	return o.journal.Update("claimed", func(tx *journal.Tx) error {
		l := ipam.NewLedger(tx.Bucket(journal.Addresses))
		for _, w := range need.Wants {
			cell := w.Set.Cell(0)
			h := l.Holding(need.Space, cell)
			one := (w.Set.Mask(cell) &^ h.Owned).Lowest(1)
			says := ipam.Confirmed{Mine: h.Owned | one, Claimed: one}
			if o.suspect {
				says.Suspect = one
			}
			l.Sync(need.Space, cell, says)
		}
		return l.Err()
	})
}

// sharing is a pod with two networks, three of whose addresses are the cluster's.
func sharing(t *testing.T) *world {
	w := newWorld(t)
	w.nads["blue/red"] = cni.Definition{Namespace: "blue", Name: "red", Config: `{"cniVersion":"1.0.0","type":"macvlan","master":"m0",
		"ipam":{"type":"whereabouts","ipRanges":[{"range":"192.0.2.0/28"},{"range":"fd00::/64"}]}}`}
	w.nads["blue/green"] = cni.Definition{Namespace: "blue", Name: "green", Config: `{"cniVersion":"1.0.0","type":"macvlan","master":"m0",
		"ipam":{"type":"tendril","ranges":[{"subnet":"198.51.100.0/28"}]}}`}
	w.pod("red,green")
	return w
}

const sharingWorld = "c1/eth0: exec\nc1/net1: macvlan  192.0.2.1/28,fd00::1/64\nc1/net2: macvlan  198.51.100.1/28\n"

func TestSlotsAreClaimedAndTheWholeIntentIsMadeAgain(t *testing.T) {
	w := sharing(t)
	e := w.engine()
	o := &office{journal: e.Journal}
	e.Claim = o
	if _, err := e.Add(context.Background(), request("c1")); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(sharingWorld, w.String()); d != "" {
		t.Error(d)
	}
	// One claim for each network: both wants of the first come together.
	if len(o.asked) != 2 || len(o.asked[0].Wants) != 2 || o.asked[1].Owner.IfName != "net2" {
		t.Errorf("asked for %+v", o.asked)
	}
	if err := e.Del(context.Background(), request("c1")); err != nil {
		t.Fatal(err)
	}
	// The same pod's next sandbox has its addresses again, without a claim.
	if _, err := e.Add(context.Background(), request("c2")); err != nil {
		t.Fatal(err)
	}
	if got := w.String(); got != strings.ReplaceAll(sharingWorld, "c1/", "c2/") || len(o.asked) != 2 {
		t.Errorf("%d claims, and the world is\n%s", len(o.asked), got)
	}
}

func TestInvariant9ClaimsThatFail(t *testing.T) {
	exhausted := &ipam.SharedExhaustedError{Nodes: map[string]int{"n1": 3}}
	for name, c := range map[string]struct {
		err  error
		code uint
		text string
	}{
		"held by another":      {refusal.New("", "ips[0]", "192.0.2.1", "a free address"), 7, "blue/red"},
		"exhausted":            {exhausted, 11, "n1 3"},
		"API server away":      {errors.New("connection refused"), 11, "connection refused"},
		"no API server at all": {nil, 7, "host-local or static"},
	} {
		t.Run(name, func(t *testing.T) {
			w := sharing(t)
			e := w.engine()
			if c.err != nil {
				e.Claim = &office{journal: e.Journal, err: c.err}
			}
			_, err := e.Add(context.Background(), request("c1"))
			if err == nil {
				t.Fatal("no error")
			}
			if got := cni.Wire(err); got.Code != c.code || !strings.Contains(got.Msg, c.text) || !strings.Contains(got.Msg, "blue/red") {
				t.Errorf("code %d, %s", got.Code, got.Msg)
			}
			if got := w.String(); got != "" {
				t.Errorf("left over:\n%s", got)
			}
		})
	}
}

// landlord knows one claim's address and has nothing for anybody else.
type landlord struct{ journal *journal.Journal }

func (l landlord) Claim(_ context.Context, need *ipam.NeedSlots) error {
	if need.Owner.Claim == "" {
		return &ipam.SharedExhaustedError{}
	}
	return l.journal.Update("grant", func(tx *journal.Tx) error {
		ledger := ipam.NewLedger(tx.Bucket(journal.Addresses))
		ledger.Grant(need.Network, need.Owner, []netip.Addr{need.Wants[0].Set[0].Start})
		return ledger.Err()
	})
}

// TestFailedClaimsLeaveNothingInTheJournal: a pod whose second network is used up is
// tried again and again, each time in another sandbox.
func TestFailedClaimsLeaveNothingInTheJournal(t *testing.T) {
	w := newWorld(t)
	for name, subnet := range map[string]string{"red": "192.0.2.0/28", "green": "198.51.100.0/28"} {
		w.nads["blue/"+name] = cni.Definition{Namespace: "blue", Name: name, Config: `{"cniVersion":"1.0.0","type":"macvlan","master":"m0",
			"ipam":{"type":"tendril","ranges":[{"subnet":"` + subnet + `"}]}}`}
	}
	w.pod(`[{"name":"red","ipam-claim-reference":"mine"},{"name":"green"}]`)
	e := w.engine()
	e.Claim = landlord{e.Journal}
	for i := range 3 {
		if _, err := e.Add(context.Background(), request(fmt.Sprintf("c%d", i))); !errors.Is(err, ipam.ErrExhausted) {
			t.Fatalf("got %v", err)
		}
	}
	if err := e.Journal.View(func(tx *journal.Tx) error {
		return tx.Bucket(journal.Addresses).ForEach(func(k, v []byte) error {
			t.Errorf("left over: %q: %s", k, v)
			return nil
		})
	}); err != nil {
		t.Fatal(err)
	}
}

// TestInvariant9AddressesBesideAClaim: of two things that say which address a pod
// has none is left out in silence.
func TestInvariant9AddressesBesideAClaim(t *testing.T) {
	for name, c := range map[string]struct {
		networks, args string
		ordinal        bool
	}{
		"a pod of a StatefulSet":  {`[{"name":"red","ips":["192.0.2.7"]}]`, `{}`, true},
		"the definition's":        {`red`, `{"cni":{"ips":["192.0.2.7"]}}`, true},
		"beside a claim by name":  {`[{"name":"red","ipam-claim-reference":"mine"}]`, `{"cni":{"ips":["192.0.2.7"]}}`, false},
		"a pod of no StatefulSet": {`[{"name":"red","ips":["192.0.2.7"]}]`, `{}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.nads["blue/red"] = cni.Definition{Namespace: "blue", Name: "red", Config: `{"cniVersion":"1.0.0","type":"macvlan","master":"m0","args":` + c.args + `,
				"ipam":{"type":"tendril","network":"n","sticky":true,"ranges":[{"subnet":"192.0.2.0/28"}]}}`}
			w.pod(c.networks)
			p := w.pods["blue/p"]
			p.Ordinal = c.ordinal
			w.pods["blue/p"] = p
			e := w.engine()
			e.Claim = &office{journal: e.Journal}
			_, err := e.Add(context.Background(), request("c1"))
			if wanted := c.ordinal || c.args != "{}"; !wanted {
				if err != nil && strings.Contains(err.Error(), "IPAMClaim") {
					t.Errorf("without a claim: %v", err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), "ips") || !strings.Contains(err.Error(), "192.0.2.7") || !strings.Contains(err.Error(), "IPAMClaim") {
				t.Errorf("%v; want a refusal that names ips, the address and the claim", err)
			}
			if got := w.String(); got != "" {
				t.Errorf("left over:\n%s", got)
			}
		})
	}
}

// neighbours have addresses of their own; asked counts who was asked for.
type neighbours struct {
	have  []string
	err   error
	asked []netip.Addr
}

func (n *neighbours) Conflicts(_ context.Context, _ *os.File, _ cni.Link, addrs []netip.Addr) (map[netip.Addr]string, error) {
	n.asked = append(n.asked, addrs...)
	out := map[netip.Addr]string{}
	for _, a := range addrs {
		if slices.Contains(n.have, a.String()) {
			out[a] = "02:00:00:00:00:99"
		}
	}
	return out, n.err
}

func (w *world) Address(pod cni.PodRef, text string) {
	w.events = append(w.events, fmt.Sprintf("%s address: %s", pod, text))
}

func TestAddressesInDoubtAreProbedBeforeTheyAreUsed(t *testing.T) {
	w := sharing(t)
	e := w.engine()
	e.Claim = &office{journal: e.Journal, suspect: true}
	n := &neighbours{have: []string{"192.0.2.1", "192.0.2.2"}}
	e.Prober = n
	if _, err := e.Add(context.Background(), request("c1")); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(strings.Replace(sharingWorld, "192.0.2.1", "192.0.2.3", 1), w.String()); d != "" {
		t.Error(d)
	}
	records, err := e.Records()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		if len(r.Attachment.Suspect) > 0 || r.Attachment.Kind != cni.KindExec && !r.Attachment.Vouched {
			t.Errorf("%s: suspect %v, vouched %v", r.Attachment.IfName, r.Attachment.Suspect, r.Attachment.Vouched)
		}
	}
	if len(w.events) < 2 || !strings.Contains(w.events[0], "192.0.2.1 of network blue/red is in use on the network by 02:00:00:00:00:99") {
		t.Errorf("events %v", w.events)
	}
	asked := len(n.asked)
	if err := e.Del(context.Background(), request("c1")); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Add(context.Background(), request("c2")); err != nil || len(n.asked) != asked {
		t.Errorf("what was proved is asked about again: %v, %v", n.asked[asked:], err)
	}
}

func TestAddressesThatCannotBeProbed(t *testing.T) {
	for name, c := range map[string]struct {
		err error
		ok  bool
	}{"nobody to ask": {cni.ErrUnasked, true}, "broken socket": {errors.New("permission denied"), false}} {
		t.Run(name, func(t *testing.T) {
			w := sharing(t)
			e := w.engine()
			e.Claim, e.Prober = &office{journal: e.Journal, suspect: true}, &neighbours{err: c.err}
			_, err := e.Add(context.Background(), request("c1"))
			if (err == nil) != c.ok {
				t.Fatal(err)
			}
			if !c.ok && w.String() != "" {
				t.Errorf("left over:\n%s", w)
			}
		})
	}
}

func TestTooManyConflictsEndTheCall(t *testing.T) {
	w := sharing(t)
	e := w.engine()
	e.Claim, e.Prober = &office{journal: e.Journal, suspect: true}, everywhere{}
	_, err := e.Add(context.Background(), request("c1"))
	if err == nil || cni.Wire(err).Code != 11 {
		t.Errorf("%v", err)
	}
	if got := w.String(); got != "" {
		t.Errorf("left over:\n%s", got)
	}
}

// everywhere has every address.
type everywhere struct{}

func (everywhere) Conflicts(_ context.Context, _ *os.File, _ cni.Link, addrs []netip.Addr) (map[netip.Addr]string, error) {
	out := map[netip.Addr]string{}
	for _, a := range addrs {
		out[a] = "02:00:00:00:00:99"
	}
	return out, nil
}

// rider is a driver whose interface net2 rides on net1, as a bond does.
type rider struct{ driver }

func (d rider) Attach(ctx context.Context, ns *os.File, r cni.Record) (cni.Link, error) {
	if r.Attachment.IfName == "net2" && !strings.Contains(d.String(), "c1/net1") {
		return cni.Link{}, errors.New("there is no net1")
	}
	return d.driver.Attach(ctx, ns, r)
}

func TestAddressesInDoubtOfALinkUponAnotherOfThePod(t *testing.T) {
	w := sharing(t)
	e := w.engine()
	e.Drivers = map[string]cni.Driver{cni.KindMacvlan: rider{driver{w}}}
	n := &neighbours{have: []string{"198.51.100.1"}}
	e.Claim, e.Prober = &office{journal: e.Journal, suspect: true}, n
	if _, err := e.Add(context.Background(), request("c1")); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(strings.Replace(sharingWorld, "198.51.100.1", "198.51.100.2", 1), w.String()); d != "" {
		t.Error(d)
	}
}

// TestLostInterfaceWhoseAddressAnotherHasByNow: it was used without a probe, since
// nobody could be asked; when the interface is made anew somebody can be.
func TestLostInterfaceWhoseAddressAnotherHasByNow(t *testing.T) {
	w := sharing(t)
	e := w.engine()
	n := &neighbours{err: cni.ErrUnasked}
	e.Claim, e.Prober = &office{journal: e.Journal, suspect: true}, n
	added(t, w, e)
	n.err, n.have = nil, []string{"192.0.2.1"}
	delete(w.links, "c1/net1")
	u, _ := auditor(w, e)
	_, err := u.Audit(context.Background(), w.list(), noRuntime)
	if err == nil || !strings.Contains(err.Error(), "address 192.0.2.1 of network blue/red is in use on the network by 02:00:00:00:00:99") {
		t.Errorf("%v; want the address and who has it", err)
	}
	if _, err := u.Audit(context.Background(), w.list(), noRuntime); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(strings.Replace(sharingWorld, "192.0.2.1", "192.0.2.2", 1), w.String()); d != "" {
		t.Error(d)
	}
}

// TestInvariant3CrashWhileAddressesAreProbed stops the daemon at every step of an
// ADD that finds a conflict, and wants an empty machine after the next start and
// the runtime's DEL, with no address held.
func TestInvariant3CrashWhileAddressesAreProbed(t *testing.T) {
	var points []string
	for _, step := range []string{"intent", "conflict", "proved", "claimed"} {
		points = append(points, "before "+step, "after "+step)
	}
	for _, p := range append(points, "attach net1", "attached net1", "detach net1", "detached net1") {
		t.Run(p, func(t *testing.T) {
			w := sharing(t)
			path := filepath.Join(t.TempDir(), "journal.db")
			prepare := func(e *cni.Engine) {
				e.Claim, e.Prober = &office{journal: e.Journal, suspect: true}, &neighbours{have: []string{"192.0.2.1"}}
			}
			e, j := w.start(path, func(at string) { _ = w.point(at) })
			prepare(e)
			w.crash = p
			func() {
				defer func() {
					if _, ok := recover().(crashed); !ok {
						t.Errorf("the daemon never came to %q", p)
					}
				}()
				_, _ = e.Add(context.Background(), request("c1"))
			}()
			w.crash = ""
			if err := j.Close(); err != nil {
				t.Fatal(err)
			}
			e, j = w.start(path, nil)
			defer j.Close()
			prepare(e)
			if err := e.Del(context.Background(), request("c1")); err != nil {
				t.Fatal(err)
			}
			if got := w.String(); got != "" {
				t.Errorf("left over:\n%s", got)
			}
			if n := holding(t, j); n != 0 {
				t.Errorf("%d addresses are held by nobody", n)
			}
			if _, err := e.Add(context.Background(), request("c2")); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// holding counts the addresses that the journal says are with attachments.
func holding(t *testing.T, j *journal.Journal) (n int) {
	t.Helper()
	err := j.View(func(tx *journal.Tx) error {
		return tx.Bucket(journal.Addresses).ForEach(func(k, _ []byte) error {
			if ipam.Held(k) {
				n++
			}
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestInvariant5RebootPutsWhatTheNodeHasInDoubt: while the node was down it may
// have been taken for gone.
func TestInvariant5RebootPutsWhatTheNodeHasInDoubt(t *testing.T) {
	w := sharing(t)
	path := filepath.Join(t.TempDir(), "journal.db")
	e, j := w.start(path, nil)
	e.Claim = &office{journal: j}
	if _, err := e.Add(context.Background(), request("c1")); err != nil {
		t.Fatal(err)
	}
	if err := j.Update("test", func(tx *journal.Tx) error { return tx.SetBoot("another") }); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	e, j = w.start(path, nil)
	defer j.Close()
	away := &office{journal: j, err: errors.New("connection refused")}
	e.Claim = away
	w.links = map[string]string{}
	if _, err := e.Add(context.Background(), request("c2")); err == nil || len(away.asked) != 1 {
		t.Errorf("after a reboot an address is handed out that nobody confirmed: %v, %d claims", err, len(away.asked))
	}
}
