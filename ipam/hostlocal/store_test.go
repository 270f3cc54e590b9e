package hostlocal_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/tendril-cni/tendril/cni/refusal"
	"github.com/tendril-cni/tendril/ipam"
	"github.com/tendril-cni/tendril/ipam/hostlocal"
)

var ctx = context.Background()

// sets reads range sets as a configuration writes them.
func sets(t testing.TB, ranges string) []ipam.RangeSet {
	t.Helper()
	cfg, err := ipam.Parse(json.RawMessage(`{"type":"host-local","ranges":` + ranges + `}`))
	if err != nil {
		t.Fatal(err)
	}
	return cfg.HostLocal.Sets
}

func open(t testing.TB, dir string) *hostlocal.Store {
	t.Helper()
	s := hostlocal.At(dir, "blue")
	if err := s.Make(); err != nil {
		t.Fatal(err)
	}
	return s
}

func owner(i int) ipam.Owner {
	return ipam.Owner{Container: fmt.Sprint("c", i), IfName: "net1"}
}

// TestFilesAreTheReferences: names and bytes.
func TestFilesAreTheReferences(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	got, err := s.Reserve(ctx, sets(t, `[[{"subnet":"10.1.0.0/24"}],[{"subnet":"2001:db8::/64","gateway":"2001:db8::ffff"}]]`), owner(1), nil)
	if err != nil || len(got) != 2 {
		t.Fatalf("%v, %v", got, err)
	}
	if text := fmt.Sprint(got[0].Prefix, got[0].Gateway, got[1].Prefix, got[1].Gateway); text != "10.1.0.2/24 10.1.0.1 2001:db8::1/64 2001:db8::ffff" {
		t.Errorf("leased %s", text)
	}
	files := map[string]string{}
	entries, err := os.ReadDir(filepath.Join(dir, "blue"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, "blue", e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = string(data)
	}
	want := map[string]string{
		"10.1.0.2": "c1\r\nnet1", "2001:db8::1": "c1\r\nnet1", "last_reserved_ip.0": "10.1.0.2", "last_reserved_ip.1": "2001:db8::1", "lock": "",
	}
	if diff := cmp.Diff(want, files); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestFileOfAnOldVersionIsReleased(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	old := filepath.Join(dir, "blue", "10.1.0.9")
	if err := os.WriteFile(old, []byte("c1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if ok, err := s.Holds(owner(1)); err != nil || !ok {
		t.Errorf("%v, %v", ok, err)
	}
	if err := s.Release(ctx, owner(1)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(old); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is left: %v", err)
	}
}

// TestInvariant5OneOwner: any sequence of reservations and releases, against a
// map.
func TestInvariant5OneOwner(t *testing.T) {
	all := sets(t, `[[{"subnet":"10.1.0.0/28"},{"subnet":"10.2.0.0/29","rangeStart":"10.2.0.3"}]]`)
	base := t.TempDir()
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		s := hostlocal.At(base, fmt.Sprint("net", n))
		held := map[ipam.Owner]netip.Addr{}
		by := map[netip.Addr]ipam.Owner{}
		for _, i := range rapid.SliceOfN(rapid.IntRange(0, 24), 1, 60).Draw(t, "owners") {
			o := owner(i)
			if a, ok := held[o]; ok {
				if err := s.Release(ctx, o); err != nil {
					t.Fatal(err)
				}
				delete(held, o)
				delete(by, a)
				continue
			}
			got, err := s.Reserve(ctx, all, o, nil)
			if len(by) == 13+4 {
				if !errors.Is(err, ipam.ErrExhausted) {
					t.Fatalf("all are taken: %v, %v", got, err)
				}
				continue
			}
			if err != nil {
				t.Fatalf("%d are taken: %v", len(by), err)
			}
			a := got[0].Prefix.Addr()
			if other, ok := by[a]; ok || a == got[0].Gateway {
				t.Fatalf("%s for %v is of %v", a, o, other)
			}
			held[o], by[a] = a, o
		}
	})
}

func TestInvariant5ManyProcessesAtOnce(t *testing.T) {
	dir, all := t.TempDir(), sets(t, `[[{"subnet":"10.1.0.0/24"}]]`)
	var g sync.WaitGroup
	var mu sync.Mutex // guards seen
	seen := map[netip.Prefix]int{}
	for i := range 64 {
		g.Go(func() {
			got, err := hostlocal.At(dir, "blue").Reserve(ctx, all, owner(i), nil)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			seen[got[0].Prefix]++
			mu.Unlock()
		})
	}
	g.Wait()
	if len(seen) != 64 {
		t.Errorf("%d addresses for 64 owners", len(seen))
	}
}

// TestInvariant3HalfMadeAddressIsNobodys: its maker died, or the machine, before
// the owner was written.
func TestInvariant3HalfMadeAddressIsNobodys(t *testing.T) {
	dir, all := t.TempDir(), sets(t, `[[{"subnet":"10.1.0.0/30"}]]`)
	s := open(t, dir)
	of, err := hostlocal.Dirs{dir}.Open(dir, "blue")
	if err != nil {
		t.Fatal(err)
	}
	asked := []netip.Prefix{netip.PrefixFrom(netip.MustParseAddr("10.1.0.2"), -1)}
	only := filepath.Join(dir, "blue", "10.1.0.2")
	for name, act := range map[string]func() error{
		"reserve":      func() error { _, err := s.Reserve(ctx, all, owner(1), nil); return err },
		"reserve it":   func() error { _, err := s.Reserve(ctx, all, owner(1), asked); return err },
		"reserve here": func() error { _, err := of.Reserve(ctx, all, owner(1), nil); return err },
		"ask for it":   func() error { _, err := of.Reserve(ctx, all, owner(1), asked); return err },
		"release":      func() error { return s.Release(ctx, owner(2)) },
		"release it":   func() error { return s.Release(ctx, owner(2), netip.MustParseAddr("10.1.0.2")) },
		"keep nothing": func() error { _, err := s.Keep(ctx, nil); return err },
	} {
		if err := os.WriteFile(only, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := act(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		data, err := os.ReadFile(only)
		if free := strings.HasPrefix(name, "release") || strings.HasPrefix(name, "keep"); free && !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: it is left: %v", name, err)
		} else if !free && string(data) != "c1\r\nnet1" {
			t.Errorf("%s: the file says %q", name, data)
		}
		_ = s.Release(ctx, owner(1))
	}
}

// TestReleaseOfKnownAddresses frees those of them that are the owner's.
func TestReleaseOfKnownAddresses(t *testing.T) {
	s, all := open(t, t.TempDir()), sets(t, `[[{"subnet":"10.1.0.0/24"}]]`)
	var got []netip.Addr
	for i := range 2 {
		l, err := s.Reserve(ctx, all, owner(i), nil)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, l[0].Prefix.Addr())
	}
	for range 2 {
		if err := s.Release(ctx, owner(0), got...); err != nil {
			t.Fatal(err)
		}
	}
	for i, want := range []bool{false, true} {
		if has, err := s.Holds(owner(i)); err != nil || has != want {
			t.Errorf("owner %d has an address: %v, %v", i, has, err)
		}
	}
}

// TestNothingIsHeldWhereNothingIs: a directory that is not there, such as one on a
// tmpfs after a reboot.
func TestNothingIsHeldWhereNothingIs(t *testing.T) {
	dir := t.TempDir()
	s := hostlocal.At(dir, "blue")
	if has, err := s.Holds(owner(1)); err != nil || has {
		t.Errorf("%v, %v", has, err)
	}
	if err := s.Release(ctx, owner(1)); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "blue")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it was made: %v", err)
	}
}

// TestLockOfAnotherIsWaitedForUntilTheDeadline, and not for ever.
func TestLockOfAnotherIsWaitedForUntilTheDeadline(t *testing.T) {
	dir, all := t.TempDir(), sets(t, `[[{"subnet":"10.1.0.0/24"}]]`)
	s := open(t, dir)
	lock, err := os.Create(filepath.Join(dir, "blue", "lock"))
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := s.Reserve(ended, all, owner(1), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want the end of the wait", err)
	}
	got := make(chan error)
	go func() { _, err := s.Reserve(ctx, all, owner(1), nil); got <- err }()
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-got; err != nil {
		t.Error(err)
	}
}

func TestInvariant9Refusals(t *testing.T) {
	s, all := open(t, t.TempDir()), sets(t, `[[{"subnet":"10.1.0.0/24"}]]`)
	ask := func(a string) []netip.Prefix { return []netip.Prefix{netip.PrefixFrom(netip.MustParseAddr(a), -1)} }
	if _, err := s.Reserve(ctx, all, owner(1), ask("10.1.0.7")); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		o     ipam.Owner
		asked []netip.Prefix
		field string
	}{
		"taken":   {owner(2), ask("10.1.0.7"), "ips"},
		"gateway": {owner(2), ask("10.1.0.1"), "ips"},
		"foreign": {owner(2), ask("10.9.0.1"), "ips"},
		"twice":   {owner(1), nil, "CNI_CONTAINERID"},
	} {
		_, err := s.Reserve(ctx, all, test.o, test.asked)
		var r *refusal.Refusal
		if !errors.As(err, &r) || r.Field != test.field || r.Allowed == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	// What a refused one took is given back.
	if ok, err := s.Holds(owner(2)); err != nil || ok {
		t.Errorf("%v, %v", ok, err)
	}
}
