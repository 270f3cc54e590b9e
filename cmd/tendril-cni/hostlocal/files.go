package hostlocal

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/tendril-cni/tendril/ipam"
)

// take makes the address the owner's; ok is false if someone has it.
func (s *Store) take(set int, a netip.Addr, o Owner) (ok bool, err error) {
	name := filepath.Join(s.dir, a.String())
	f, err := os.OpenFile(name, os.O_RDWR|os.O_EXCL|os.O_CREATE, 0o600)
	if errors.Is(err, os.ErrExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("reserve %s: %w", a, err)
	}
	_, err = f.WriteString(o.text())
	if err = errors.Join(err, f.Close()); err != nil {
		return false, errors.Join(fmt.Errorf("reserve %s: %w", a, err), os.Remove(name))
	}
	if err := os.WriteFile(s.lastFile(set), []byte(a.String()), 0o600); err != nil {
		return false, errors.Join(fmt.Errorf("reserve %s: %w", a, err), os.Remove(name))
	}
	return true, nil
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

// files calls f with every address and what its file says.
func (s *Store) files(f func(a netip.Addr, text string) error) error {
	entries, err := os.ReadDir(s.dir)
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

// owns reports whether text says o. Old files have the container alone.
func (o Owner) owns(text string) bool {
	return text == o.text() || text == strings.TrimSpace(o.ContainerID)
}

func (s *Store) held(o Owner) ([]netip.Addr, error) {
	var out []netip.Addr
	err := s.files(func(a netip.Addr, text string) error {
		if o.owns(text) {
			out = append(out, a)
		}
		return nil
	})
	return out, err
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
func (s *Store) Holds(o Owner) (bool, error) {
	held, err := s.held(o)
	return len(held) > 0, err
}

// Release frees what the owner has; nothing is freed twice.
func (s *Store) Release(o Owner) error {
	return s.locked(func() error {
		exact, old := []netip.Addr(nil), []netip.Addr(nil)
		err := s.files(func(a netip.Addr, text string) error {
			switch {
			case text == o.text():
				exact = append(exact, a)
			case o.owns(text):
				old = append(old, a)
			}
			return nil
		})
		if err != nil {
			return err
		}
		// Files of an old version count only where there is none of a new one.
		if len(exact) == 0 {
			exact = old
		}
		return s.remove(exact)
	})
}

// Keep frees every address whose owner is not among valid, and returns those.
// Files of old versions, which do not name the interface, stay as long as the
// container is among valid.
func (s *Store) Keep(valid []Owner) ([]netip.Addr, error) {
	var gone []netip.Addr
	err := s.locked(func() error {
		err := s.files(func(a netip.Addr, text string) error {
			for _, o := range valid {
				if o.owns(text) {
					return nil
				}
			}
			gone = append(gone, a)
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
