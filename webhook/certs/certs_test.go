package certs_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tendril-cni/tendril/webhook/certs"
)

var (
	discard = slog.New(slog.NewTextHandler(io.Discard, nil))
	policy  = certs.Policy{Names: []string{"w.x.svc"}, CAValidity: 300 * time.Hour, LeafValidity: 30 * time.Hour, Overlap: time.Hour}
	start   = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
)

// verify is what an API server with that bundle says to a leaf at a time.
func verify(bundle []byte, leaf *tls.Certificate, now time.Time) error {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(bundle) {
		return errors.New("no certificate in the bundle")
	}
	_, err := leaf.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: "w.x.svc", CurrentTime: now})
	return err
}

// TestEveryStepIsTrusted walks many lifetimes of the authority. At any time every
// bundle of the last Overlap vouches for every leaf of the last Overlap: no
// order in which API servers and replicas learn of changes fails a handshake.
func TestEveryStepIsTrusted(t *testing.T) {
	type seen struct {
		until  time.Time
		bundle []byte
		leaf   *tls.Certificate
	}
	var s certs.State
	var past []seen
	published, authorities := time.Time{}, map[string]bool{}
	for now := start; now.Before(start.Add(1000 * time.Hour)); now = now.Add(10 * time.Minute) {
		next, changed, err := s.Next(now, published, policy)
		if err != nil {
			t.Fatal(err)
		}
		if changed && !bytes.Equal(next.Bundle(), s.Bundle()) {
			published = now.Add(10 * time.Minute) // it is seen published the next time
		}
		s = next
		authorities[string(s.Bundle()[len(s.Bundle())/2:])] = true
		if n := len(past); n > 0 && past[n-1].leaf.Leaf.Equal(s.Leaf().Leaf) && bytes.Equal(past[n-1].bundle, s.Bundle()) {
			past[n-1].until = now
		} else {
			past = append(past, seen{now, s.Bundle(), s.Leaf()})
		}
		for now.Sub(past[0].until) > policy.Overlap-20*time.Minute {
			past = past[1:]
		}
		for _, a := range past {
			for _, b := range past {
				if err := verify(a.bundle, b.leaf, now); err != nil {
					t.Fatalf("at %v: bundle of %v, leaf of %v: %v", now.Sub(start), a.until.Sub(start), b.until.Sub(start), err)
				}
			}
		}
	}
	if len(authorities) < 4 {
		t.Errorf("%d bundles in 1000 hours of authorities of 300", len(authorities))
	}
}

// TestNeverAnUntrustedLeaf walks with outages of any length: while nothing can be
// published a new authority signs nothing.
func TestNeverAnUntrustedLeaf(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s certs.State
		var published time.Time
		var trusted []byte // what API servers have
		now := start
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(1, 40).Draw(t, "hours")) * time.Hour)
			if rapid.Bool().Draw(t, "publish") {
				if !bytes.Equal(trusted, s.Bundle()) || published.IsZero() {
					published = now
				}
				trusted = s.Bundle()
			} else {
				published = time.Time{}
			}
			next, _, err := s.Next(now, published, policy)
			if err != nil {
				t.Fatal(err)
			}
			begun := len(s.Bundle()) == 0 || verify(s.Bundle(), s.Leaf(), now) != nil
			if s = next; begun || len(trusted) == 0 {
				continue // nothing was trusted before, or everything had ended
			}
			if err := verify(trusted, s.Leaf(), now); err != nil && verify(s.Bundle(), s.Leaf(), now) == nil && !published.IsZero() {
				t.Fatalf("leaf is not trusted: %v", err)
			}
		}
	})
}

// TestServesAfterAbsence: whatever time the replicas were away, and however short
// the lifetimes were before, they serve with a valid leaf when they have been back
// for three looks, and from then on at every look.
func TestServesAfterAbsence(t *testing.T) {
	short := certs.Policy{Names: policy.Names, CAValidity: 90 * time.Minute, LeafValidity: time.Hour, Overlap: 8 * time.Minute}
	rapid.Check(t, func(t *rapid.T) {
		before := rapid.SampledFrom([]certs.Policy{policy, short}).Draw(t, "before")
		s, _, err := certs.State{}.Next(start, time.Time{}, before)
		if err != nil {
			t.Fatal(err)
		}
		back := start.Add(time.Duration(rapid.IntRange(0, 310*60).Draw(t, "minutes away")) * time.Minute)
		var published time.Time
		for look := range 3 * 60 {
			now := back.Add(time.Duration(look) * time.Minute)
			next, changed, err := s.Next(now, published, policy)
			if err != nil {
				t.Fatal(err)
			}
			if published.IsZero() || changed && !bytes.Equal(next.Bundle(), s.Bundle()) {
				published = now
			}
			s = next
			if err := verify(s.Bundle(), s.Leaf(), now); err != nil && look > 2 {
				t.Fatalf("at look %d: %v", look, err)
			}
		}
	})
}

func TestLeafFollowsItsNames(t *testing.T) {
	s, _, err := certs.State{}.Next(start, time.Time{}, policy)
	if err != nil {
		t.Fatal(err)
	}
	other := policy
	other.Names = []string{"w.x.svc", "new.x.svc"}
	next, changed, err := s.Next(start.Add(time.Hour), time.Time{}, other)
	if err != nil || !changed || next.Leaf().Leaf.VerifyHostname("new.x.svc") != nil || !bytes.Equal(next.Bundle(), s.Bundle()) {
		t.Errorf("changed %v, error %v", changed, err)
	}
}

// TestStricterPolicyHoldsAtOnce: what was made to last longer is replaced, with
// the overlap of every renewal, and then left alone.
func TestStricterPolicyHoldsAtOnce(t *testing.T) {
	s, _, err := certs.State{}.Next(start, time.Time{}, policy)
	if err != nil {
		t.Fatal(err)
	}
	strict := policy
	strict.CAValidity, strict.LeafValidity = 100*time.Hour, 10*time.Hour
	var changes []int
	for now := start.Add(time.Minute); now.Before(start.Add(5 * time.Hour)); now = now.Add(time.Minute) {
		next, changed, err := s.Next(now, now.Add(-2*strict.Overlap), strict)
		if err != nil {
			t.Fatal(err)
		}
		if changed {
			changes = append(changes, bytes.Count(next.Bundle(), []byte("BEGIN")))
		}
		s = next
	}
	// A second authority, a leaf of it, the first authority gone.
	if diff := cmp.Diff([]int{2, 2, 1}, changes); diff != "" {
		t.Error(diff)
	}
	if end := s.Leaf().Leaf.NotAfter; end.After(start.Add(11 * time.Hour)) {
		t.Errorf("the leaf lasts until %v", end)
	}
}

// TestPolicyThatCannotBeKept: lifetimes that end before a renewal is known.
func TestPolicyThatCannotBeKept(t *testing.T) {
	const h = time.Hour
	for want, p := range map[string]certs.Policy{
		"":                   {},
		"--cert-overlap":     {Overlap: time.Second},
		"--cert-validity":    {LeafValidity: 50 * time.Minute},
		"--cert-ca-validity": {CAValidity: 3 * h, LeafValidity: 4 * h},
	} {
		err := p.Validate(time.Minute)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), "field "+want+":")) {
			t.Errorf("%+v: %v, want a refusal of %q", p, err, want)
		}
	}
}

func TestParse(t *testing.T) {
	s, _, err := certs.State{}.Next(start, time.Time{}, policy)
	if err != nil {
		t.Fatal(err)
	}
	other, _, err := certs.State{}.Next(start, time.Time{}, policy)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := certs.Parse(s.Data()); err != nil {
		t.Fatal(err)
	}
	for key := range s.Data() {
		for what, value := range map[string][]byte{"gone": nil, "garbage": []byte("x"), "another's": other.Data()[key]} {
			data := map[string][]byte{}
			for k, v := range s.Data() {
				data[k] = v
			}
			data[key] = value
			if _, err := certs.Parse(data); err == nil {
				t.Errorf("%s %s: no error", key, what)
			}
		}
	}
}

// shared is a Store with faults, and a Publisher.
type shared struct {
	data                map[string][]byte
	version             int
	loadErr, publishErr error
	rival               func() // acts between Load and Save, once
	published           []byte
}

func (s *shared) Load(context.Context) (map[string][]byte, string, error) {
	return s.data, fmt.Sprint(s.version), s.loadErr
}

func (s *shared) Save(_ context.Context, data map[string][]byte, version string) error {
	if r := s.rival; r != nil {
		s.rival = nil
		r()
	}
	if version != fmt.Sprint(s.version) {
		return fmt.Errorf("save: %w", certs.ErrConflict)
	}
	s.data, s.version = data, s.version+1
	return nil
}

func (s *shared) Publish(_ context.Context, bundle []byte) error {
	if s.publishErr == nil {
		s.published = bundle
	}
	return s.publishErr
}

type clock struct{ now time.Time }

func (c *clock) time() time.Time { return c.now }

func TestKeeper(t *testing.T) {
	store, now := &shared{}, &clock{start}
	keeper := func() *certs.Keeper {
		return certs.NewKeeper(store, store, policy, time.Minute, now.time, discard)
	}
	k := keeper()
	if _, err := k.Certificate(nil); err == nil || k.Ready() == nil {
		t.Error("ready before the first look")
	}
	other := keeper()
	store.rival = func() {
		if err := other.Step(t.Context()); err != nil {
			t.Error(err)
		}
	}
	step(t, k, "")
	if err := k.Ready(); err != nil {
		t.Error(err)
	}
	if !bytes.Equal(k.Bundle(), other.Bundle()) || !bytes.Equal(store.published, k.Bundle()) {
		t.Error("two replicas, two authorities")
	}
	leaf := current(t, k)
	store.loadErr = errors.New("api server gone")
	step(t, k, "api server gone")
	if current(t, k) != leaf || k.Ready() != nil || k.Alive() != nil {
		t.Error("an outage ended serving")
	}
	store.loadErr, store.publishErr = nil, errors.New("forbidden")
	now.now = start.Add(250 * time.Hour) // the authority is due
	step(t, k, "forbidden")
	if !bytes.Equal(store.data["ca.crt"], k.Bundle()) {
		t.Error("changed what could not be published")
	}
}

// TestKeeperMendsADamagedSecret: nobody can serve with it, so it is made anew.
func TestKeeperMendsADamagedSecret(t *testing.T) {
	store, now := &shared{data: map[string][]byte{"tls.crt": []byte("x")}}, &clock{start}
	k := certs.NewKeeper(store, store, policy, time.Minute, now.time, discard)
	step(t, k, "")
	if err := k.Ready(); err != nil {
		t.Error(err)
	}
	now.now = k.Expiry().Add(time.Second)
	if err := k.Ready(); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("after the end: %v", err)
	}
	if err := k.Alive(); err == nil {
		t.Error("nobody looked for days, and that is fine")
	}
}

func step(t *testing.T, k *certs.Keeper, want string) {
	t.Helper()
	err := k.Step(t.Context())
	if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
		t.Fatalf("step: %v, want %q", err, want)
	}
}

func current(t *testing.T, k *certs.Keeper) *tls.Certificate {
	t.Helper()
	c, err := k.Certificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
