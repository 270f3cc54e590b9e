package hostlocal

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tendril-cni/tendril/cni/refusal"
	"github.com/tendril-cni/tendril/ipam"
)

const (
	lastPrefix = "last_reserved_ip."
	lineBreak  = "\r\n"
)

// Store is the directory of one network.
type Store struct {
	dir string
	// recorded: whoever calls knows by records of its own that an owner has nothing
	// yet, so that Reserve need not read every file to find that out.
	recorded bool
}

// At returns the directory of network below dataDir. It need not be there: nothing
// is held in it then, and Reserve makes it.
func At(dataDir, network string) *Store {
	return &Store{dir: filepath.Join(dataDir, network)}
}

// Make makes the directory if it is missing.
func (s *Store) Make() error {
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return fmt.Errorf("make directory of network %s: %w", filepath.Base(s.dir), err)
	}
	return nil
}

// How long is waited before a lock that somebody else has is asked for again: at
// first, and at most.
const (
	firstWait = 100 * time.Microsecond
	mostWait  = 5 * time.Millisecond
)

// locked runs f under the directory's lock. A process that keeps the lock to
// itself is waited for until ctx ends.
func (s *Store) locked(ctx context.Context, f func() error) error {
	lock, err := os.OpenFile(filepath.Join(s.dir, "lock"), os.O_RDONLY|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("lock %s: %w", s.dir, err)
	}
	if err := take(ctx, lock); err != nil {
		return errors.Join(fmt.Errorf("lock %s: %w", s.dir, err), lock.Close())
	}
	return errors.Join(f(), lock.Close())
}

// take asks for the lock instead of waiting in the kernel, where no deadline ends
// the wait.
func take(ctx context.Context, lock *os.File) error {
	for wait := firstWait; ; wait = min(2*wait, mostWait) {
		err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err != unix.EWOULDBLOCK && err != unix.EINTR {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("another process has it: %w", ctx.Err())
		case <-time.After(wait):
		}
	}
}

// Reserve gives the owner one address of each set: the one asked for, or the next
// free one after the set's last. An owner that has one of the set is refused, as
// is an address asked for that is no set's, the gateway's or another owner's. A
// used-up set is ipam.ErrExhausted.
func (s *Store) Reserve(ctx context.Context, sets []ipam.RangeSet, o ipam.Owner, asked []netip.Prefix) ([]ipam.Address, error) {
	if err := s.Make(); err != nil {
		return nil, err
	}
	var out []ipam.Address
	err := s.locked(ctx, func() error {
		var err error
		if out, err = s.reserve(sets, o, asked); err != nil {
			return errors.Join(err, s.drop(out))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func (s *Store) reserve(sets []ipam.RangeSet, o ipam.Owner, asked []netip.Prefix) (out []ipam.Address, err error) {
	var held []netip.Addr
	if !s.recorded {
		if held, err = s.heldNow(o); err != nil {
			return nil, err
		}
	}
	left := append([]netip.Prefix(nil), asked...)
	for i, set := range sets {
		for _, a := range held {
			if _, ok := rangeOf(set, a); ok {
				return out, refusal.New("", "CNI_CONTAINERID", o.Container, fmt.Sprintf("one without an address in this network; it has %s: DEL it first", a))
			}
		}
		var wanted netip.Addr
		for k, p := range left {
			if _, ok := rangeOf(set, p.Addr()); ok {
				wanted, left = p.Addr(), append(left[:k], left[k+1:]...)
				break
			}
		}
		got, err := s.pick(i, set, o, wanted)
		if err != nil {
			return out, err
		}
		out = append(out, got)
	}
	if len(left) > 0 {
		return out, refusal.New("", "ips", left[0].Addr().String(), "an address of the network's ranges, one of each set")
	}
	return out, nil
}

// pick takes one address of a set.
func (s *Store) pick(i int, set ipam.RangeSet, o ipam.Owner, wanted netip.Addr) (ipam.Address, error) {
	if wanted.IsValid() {
		r, _ := rangeOf(set, wanted)
		free := "a free address of " + r.String()
		if wanted == r.Gateway {
			return ipam.Address{}, refusal.New("", "ips", wanted.String(), free+"; this one is the gateway's")
		}
		ok, err := s.write(i, wanted, o)
		if err == nil && !ok && s.nobodys(wanted) {
			ok, err = s.rewrite(i, wanted, o)
		}
		if err == nil && !ok {
			err = refusal.New("", "ips", wanted.String(), free+"; this one is held by "+s.holder(wanted))
		}
		return dressed(wanted, r), err
	}
	got, err := s.next(i, set, o)
	if _, full := errors.AsType[*ipam.ExhaustedError](err); full && s.recorded {
		// Nobody has looked for addresses without an owner.
		if _, err := s.heldNow(o); err != nil {
			return ipam.Address{}, err
		}
		return s.next(i, set, o)
	}
	return got, err
}

// next takes the next free address of a set.
func (s *Store) next(i int, set ipam.RangeSet, o ipam.Owner) (ipam.Address, error) {
	taken, err := s.taken()
	if err != nil {
		return ipam.Address{}, err
	}
	for a, r := range round(set, s.last(i)) {
		if a == r.Gateway || taken[a] {
			continue
		}
		ok, err := s.write(i, a, o)
		if err != nil || ok {
			return dressed(a, r), err
		}
	}
	return ipam.Address{}, &ipam.ExhaustedError{Network: filepath.Base(s.dir), Set: i, Ranges: set, Used: uint64(len(taken))}
}

// round yields the addresses of the set once, beginning behind last.
func round(set ipam.RangeSet, last netip.Addr) func(yield func(netip.Addr, ipam.Range) bool) {
	return func(yield func(netip.Addr, ipam.Range) bool) {
		at, start := 0, netip.Addr{}
		for i, r := range set {
			if within(r, last) {
				at, start = i, last
			}
		}
		for k := range len(set) + 1 {
			r := set[(at+k)%len(set)]
			from, to := r.Start, r.End
			if k == 0 && start.IsValid() {
				from = start.Next()
			}
			if k == len(set) {
				if !start.IsValid() {
					return
				}
				to = start
			}
			for a := from; a.IsValid() && a.Compare(to) <= 0; a = a.Next() {
				if !yield(a, r) {
					return
				}
			}
		}
	}
}

func within(r ipam.Range, a netip.Addr) bool {
	return a.IsValid() && a.Is4() == r.Start.Is4() && r.Start.Compare(a) <= 0 && a.Compare(r.End) <= 0
}

func rangeOf(set ipam.RangeSet, a netip.Addr) (ipam.Range, bool) {
	for _, r := range set {
		if within(r, a) {
			return r, true
		}
	}
	return ipam.Range{}, false
}

func dressed(a netip.Addr, r ipam.Range) ipam.Address {
	return ipam.Address{Prefix: netip.PrefixFrom(a, r.Subnet.Bits()), Gateway: r.Gateway}
}
