package certs

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tendril-cni/tendril/cni/refusal"
)

// Keys of the shared Secret. The last two are those of a TLS Secret.
const (
	bundleKey  = "ca.crt" // authorities, oldest first
	caKeyKey   = "ca.key" // key of the newest authority
	leafKey    = "tls.crt"
	leafKeyKey = "tls.key"
)

// Policy says how long things last.
type Policy struct {
	// Names are the DNS names of the leaf, at least one.
	Names []string
	// CAValidity and LeafValidity are lifetimes; renewal begins when a third is
	// left. Zero is DefaultPolicy's.
	CAValidity, LeafValidity time.Duration
	// Overlap is how long API servers and replicas may take to see a change; zero
	// is DefaultPolicy's.
	Overlap time.Duration
}

// DefaultPolicy is what holds where a Policy says nothing; it has no names.
var DefaultPolicy = Policy{CAValidity: 3 * 365 * 24 * time.Hour, LeafValidity: 90 * 24 * time.Hour, Overlap: 10 * time.Minute}

func (p Policy) withDefaults() Policy {
	p.CAValidity = cmp.Or(p.CAValidity, DefaultPolicy.CAValidity)
	p.LeafValidity = cmp.Or(p.LeafValidity, DefaultPolicy.LeafValidity)
	p.Overlap = cmp.Or(p.Overlap, DefaultPolicy.Overlap)
	return p
}

// Validate refuses lifetimes within which a renewal cannot be made known, for a
// Keeper that looks every interval: it begins when a third is left and takes an
// overlap, and as long again is for API servers that are away meanwhile. The
// fields are the command line's.
func (p Policy) Validate(interval time.Duration) error {
	const object = "command line"
	p = p.withDefaults()
	switch {
	case interval <= 0:
		return refusal.New(object, "--cert-interval", interval, "more than 0s")
	case p.Overlap < interval:
		return refusal.New(object, "--cert-overlap", p.Overlap, "at least --cert-interval, "+interval.String())
	case p.LeafValidity < 6*p.Overlap:
		return refusal.New(object, "--cert-validity", p.LeafValidity, "at least six times --cert-overlap, "+(6*p.Overlap).String())
	case p.CAValidity < p.LeafValidity:
		return refusal.New(object, "--cert-ca-validity", p.CAValidity, "at least --cert-validity, "+p.LeafValidity.String())
	}
	return nil
}

// State is a serving pair with the authorities that vouch for it.
type State struct {
	authorities []*x509.Certificate // oldest first
	key         *ecdsa.PrivateKey   // of the newest
	leaf        *tls.Certificate
	data        map[string][]byte
}

// Parse reads the data of the Secret. Data without any of the keys is the zero
// State; anything else that is not whole is an error.
func Parse(data map[string][]byte) (State, error) {
	if len(data[bundleKey])+len(data[caKeyKey])+len(data[leafKey])+len(data[leafKeyKey]) == 0 {
		return State{}, nil
	}
	s := State{data: data}
	var err error
	if s.authorities, err = parseBundle(data[bundleKey]); err == nil && len(s.authorities) == 0 {
		err = errors.New("no certificate")
	}
	if err != nil {
		return State{}, fmt.Errorf("read %s: %w", bundleKey, err)
	}
	if s.key, err = parseKey(data[caKeyKey]); err != nil {
		return State{}, fmt.Errorf("read %s: %w", caKeyKey, err)
	}
	if !s.key.PublicKey.Equal(s.newest().PublicKey) {
		return State{}, fmt.Errorf("read %s: not the key of the last certificate of %s", caKeyKey, bundleKey)
	}
	if s.leaf, err = pair(data[leafKey], data[leafKeyKey]); err != nil {
		return State{}, fmt.Errorf("read %s: %w", leafKey, err)
	}
	if s.signer() < 0 {
		return State{}, fmt.Errorf("read %s: signed by no certificate of %s", leafKey, bundleKey)
	}
	return s, nil
}

// Data returns what the Secret is to hold.
func (s State) Data() map[string][]byte { return s.data }

// Bundle returns the authorities in PEM, for clientConfig.caBundle.
func (s State) Bundle() []byte { return s.data[bundleKey] }

// Leaf returns the pair to serve with, nil for the zero State.
func (s State) Leaf() *tls.Certificate { return s.leaf }

func (s State) empty() bool { return s.leaf == nil }

func (s State) newest() *x509.Certificate { return s.authorities[len(s.authorities)-1] }

// signer returns which authority signed the leaf, -1 for none.
func (s State) signer() int {
	return slices.IndexFunc(s.authorities, func(ca *x509.Certificate) bool { return s.leaf.Leaf.CheckSignatureFrom(ca) == nil })
}

// made is when a certificate was made: its validity begins clockSkew earlier.
func made(c *x509.Certificate) time.Time { return c.NotBefore.Add(clockSkew) }

// old reports whether a third or less of c's lifetime is left, or that is longer
// than what is wanted now: a policy that became stricter holds at once.
func old(c *x509.Certificate, now time.Time, validity time.Duration) bool {
	lifetime := c.NotAfter.Sub(made(c))
	return c.NotAfter.Sub(now) <= lifetime/3 || lifetime > validity+time.Second // certificates have whole seconds
}

// Next returns the state that is to follow s at now, and whether it differs. At
// most one thing changes at a time. published is since when the webhook
// configurations have been seen with the bundle of s, zero for not at all.
func (s State) Next(now, published time.Time, p Policy) (State, bool, error) {
	p = p.withDefaults()
	known := !published.IsZero() && (now.Sub(published) >= p.Overlap || s.ending(now, p))
	switch {
	case s.empty() || s.dead(now):
		next, err := s.begin(now, p)
		return next, err == nil, err
	case old(s.newest(), now, p.CAValidity):
		next, err := s.addAuthority(now, p)
		return next, err == nil, err
	case s.leafDue(now, p) && (known || s.signer() == len(s.authorities)-1):
		// An authority that is not known everywhere must not sign yet, unless it
		// has signed the leaf that is served already.
		next, err := s.renew(now, p)
		return next, err == nil, err
	case s.signer() > 0 && now.Sub(made(s.leaf.Leaf)) >= p.Overlap:
		s.authorities = s.authorities[s.signer():]
		next, err := s.encode(s.data[leafKey], s.data[leafKeyKey])
		return next, err == nil, err
	}
	return s, false, nil
}

// dead reports whether nothing of s can be used any more: after a long absence.
func (s State) dead(now time.Time) bool { return now.After(s.newest().NotAfter) }

// ending reports whether the leaf serves hardly longer, or not at all any more:
// after an absence, or where the policy was another one. To wait out an overlap
// would keep away everybody then, and not only who has not seen the change yet.
func (s State) ending(now time.Time, p Policy) bool {
	return s.leaf != nil && s.leaf.Leaf.NotAfter.Sub(now) <= p.Overlap/10
}

// leafDue reports whether the leaf is to be signed anew: for its age, its names,
// or because a newer authority is there.
func (s State) leafDue(now time.Time, p Policy) bool {
	return old(s.leaf.Leaf, now, p.LeafValidity) || s.signer() != len(s.authorities)-1 || !slices.Equal(s.leaf.Leaf.DNSNames, p.Names)
}

// begin makes an authority and a leaf at once.
func (s State) begin(now time.Time, p Policy) (State, error) {
	ca, key, err := newAuthority(now, p.CAValidity)
	if err != nil {
		return State{}, err
	}
	fresh := State{authorities: []*x509.Certificate{ca}, key: key}
	return fresh.renew(now, p)
}

// addAuthority puts a new authority at the end of the bundle; the leaf stays.
func (s State) addAuthority(now time.Time, p Policy) (State, error) {
	ca, key, err := newAuthority(now, p.CAValidity)
	if err != nil {
		return State{}, err
	}
	s.authorities, s.key = append(slices.Clone(s.authorities), ca), key
	return s.encode(s.data[leafKey], s.data[leafKeyKey])
}

func (s State) renew(now time.Time, p Policy) (State, error) {
	cert, key, err := newLeaf(s.newest(), s.key, p.Names, now, p.LeafValidity)
	if err != nil {
		return State{}, err
	}
	return s.encode(cert, key)
}

func (s State) encode(leaf, key []byte) (State, error) {
	caKey, err := encodeKey(s.key)
	if err != nil {
		return State{}, err
	}
	return Parse(map[string][]byte{bundleKey: encodeBundle(s.authorities), caKeyKey: caKey, leafKey: leaf, leafKeyKey: key})
}
