package hostlocal

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/tendril-cni/tendril/ipam"
)

// write makes the address the owner's; ok is false if someone has it.
func (s *Store) write(set int, a netip.Addr, o ipam.Owner) (ok bool, err error) {
	name := filepath.Join(s.dir, a.String())
	f, err := os.OpenFile(name, os.O_RDWR|os.O_EXCL|os.O_CREATE, 0o600)
	if errors.Is(err, os.ErrExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("reserve %s: %w", a, err)
	}
	_, err = f.WriteString(text(o))
	if err = errors.Join(err, f.Close()); err != nil {
		return false, errors.Join(fmt.Errorf("reserve %s: %w", a, err), os.Remove(name))
	}
	if err := os.WriteFile(s.lastFile(set), []byte(a.String()), 0o600); err != nil {
		return false, errors.Join(fmt.Errorf("reserve %s: %w", a, err), os.Remove(name))
	}
	return true, nil
}

// nobodys reports whether the address has a file without an owner.
func (s *Store) nobodys(a netip.Addr) bool {
	info, err := os.Stat(filepath.Join(s.dir, a.String()))
	return err == nil && info.Size() == 0
}

// rewrite is write for an address that is nobody's.
func (s *Store) rewrite(set int, a netip.Addr, o ipam.Owner) (bool, error) {
	if err := s.remove([]netip.Addr{a}); err != nil {
		return false, err
	}
	return s.write(set, a, o)
}

func (s *Store) lastFile(set int) string {
	return filepath.Join(s.dir, lastPrefix+strconv.Itoa(set))
}

// last is the address that the set handed out last, zero for none.
func (s *Store) last(set int) netip.Addr {
	data, err := os.ReadFile(s.lastFile(set))
	if err != nil {
		return netip.Addr{}
	}
	a, _ := netip.ParseAddr(string(data))
	return a.Unmap()
}

// text is what the file of an address of the owner's says.
func text(o ipam.Owner) string { return strings.TrimSpace(o.Container) + lineBreak + o.IfName }

// owns reports whether said is the owner's. Old files have the container alone.
func owns(o ipam.Owner, said string) bool {
	return said == text(o) || said == strings.TrimSpace(o.Container)
}

// files calls f with every address and what its file says, which is nothing where
// its maker died, or the machine, before it was written.
func (s *Store) files(f func(a netip.Addr, said string) error) error {
	entries, err := os.ReadDir(s.dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read addresses: %w", err)
	}
	for _, e := range entries {
		a, err := netip.ParseAddr(e.Name())
		if err != nil {
			continue // lock, last_reserved_ip.N, and what is not ours
		}
		data, err := os.ReadFile(filepath.Join(s.dir, e.Name()))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read owner of %s: %w", a, err)
		}
		if err := f(a, strings.TrimSpace(string(data))); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) held(o ipam.Owner) ([]netip.Addr, error) {
	var out []netip.Addr
	err := s.files(func(a netip.Addr, said string) error {
		if owns(o, said) {
			out = append(out, a)
		}
		return nil
	})
	return out, err
}

// heldNow is held under the lock. Whoever makes an address has the lock until its
// owner stands in it: one without an owner is nobody's, and goes.
func (s *Store) heldNow(o ipam.Owner) ([]netip.Addr, error) {
	var out, nobodys []netip.Addr
	err := s.files(func(a netip.Addr, said string) error {
		switch {
		case said == "":
			nobodys = append(nobodys, a)
		case owns(o, said):
			out = append(out, a)
		}
		return nil
	})
	return out, errors.Join(err, s.remove(nobodys))
}

func (s *Store) taken() (map[netip.Addr]bool, error) {
	out := map[netip.Addr]bool{}
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("read addresses: %w", err)
	}
	for _, e := range entries {
		if a, err := netip.ParseAddr(e.Name()); err == nil {
			out[a] = true
		}
	}
	return out, nil
}

// holder names the owner of an address, for people.
func (s *Store) holder(a netip.Addr) string {
	data, err := os.ReadFile(filepath.Join(s.dir, a.String()))
	if err != nil {
		return "another container"
	}
	id, ifName, _ := strings.Cut(strings.TrimSpace(string(data)), lineBreak)
	return fmt.Sprintf("container %s, interface %s", id, ifName)
}

// Holds reports whether the owner has an address.
func (s *Store) Holds(o ipam.Owner) (bool, error) {
	held, err := s.held(o)
	return len(held) > 0, err
}

// Release frees what the owner has; nothing is freed twice. known are all its
// addresses, where they are known: then no other file is read.
func (s *Store) Release(ctx context.Context, o ipam.Owner, known ...netip.Addr) error {
	if _, err := os.Stat(s.dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return s.locked(ctx, func() error {
		if len(known) > 0 {
			return s.removeOwn(o, known)
		}
		return s.removeAll(o)
	})
}

// removeOwn removes those of addrs that are the owner's.
func (s *Store) removeOwn(o ipam.Owner, addrs []netip.Addr) error {
	var own []netip.Addr
	for _, a := range addrs {
		data, err := os.ReadFile(filepath.Join(s.dir, a.String()))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read owner of %s: %w", a, err)
		}
		if said := strings.TrimSpace(string(data)); said == "" || owns(o, said) {
			own = append(own, a)
		}
	}
	return s.remove(own)
}

// removeAll removes what is the owner's. Files of an old version count only where
// there is none of a new one.
func (s *Store) removeAll(o ipam.Owner) error {
	var exact, old, nobodys []netip.Addr
	err := s.files(func(a netip.Addr, said string) error {
		switch {
		case said == "":
			nobodys = append(nobodys, a)
		case said == text(o):
			exact = append(exact, a)
		case owns(o, said):
			old = append(old, a)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if len(exact) == 0 {
		exact = old
	}
	return s.remove(append(exact, nobodys...))
}

// Keep frees every address whose owner is not among valid, and returns those.
// Files of old versions, which do not name the interface, stay as long as the
// container is among valid.
func (s *Store) Keep(ctx context.Context, valid []ipam.Owner) ([]netip.Addr, error) {
	if err := s.Make(); err != nil {
		return nil, err
	}
	var gone []netip.Addr
	err := s.locked(ctx, func() error {
		err := s.files(func(a netip.Addr, said string) error {
			if !slices.ContainsFunc(valid, func(o ipam.Owner) bool { return owns(o, said) }) {
				gone = append(gone, a)
			}
			return nil
		})
		if err != nil {
			return err
		}
		return s.remove(gone)
	})
	return gone, err
}

func (s *Store) drop(list []ipam.Address) error {
	var addrs []netip.Addr
	for _, a := range list {
		addrs = append(addrs, a.Prefix.Addr())
	}
	return s.remove(addrs)
}

func (s *Store) remove(addrs []netip.Addr) error {
	var errs []error
	for _, a := range addrs {
		if err := os.Remove(filepath.Join(s.dir, a.String())); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, fmt.Errorf("release %s: %w", a, err))
		}
	}
	return errors.Join(errs...)
}
