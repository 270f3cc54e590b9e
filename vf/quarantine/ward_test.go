package quarantine_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tendril-cni/tendril/vf"
	"github.com/tendril-cni/tendril/vf/quarantine"
)

// patience bounds every wait; nothing is asserted about time.
const patience = 20 * time.Second

var (
	vf0 = vf.MustAddr("0000:01:10.0")
	vf1 = vf.MustAddr("0000:01:10.2")
)

// memory is a Store that may refuse.
type memory struct {
	mu   sync.Mutex // guards data and fail
	data map[string][]byte
	fail error
}

func (m *memory) All() (map[string][]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.data), nil
}

func (m *memory) Put(k string, v []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail == nil {
		m.data[k] = v
	}
	return m.fail
}

func (m *memory) Delete(k string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail == nil {
		delete(m.data, k)
	}
	return m.fail
}

func (m *memory) refuse(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail = err
}

// hospital has VFs that heal when the test says so.
type hospital struct {
	*testing.T
	ward  *quarantine.Ward
	store *memory

	mu    sync.Mutex // guards the rest
	ill   map[vf.Addr]string
	tries map[vf.Addr]int
}

func open(t *testing.T, store *memory) *hospital {
	t.Helper()
	return openIn(t, store, "this boot")
}

func openIn(t *testing.T, store *memory, boot string) *hospital {
	t.Helper()
	h := &hospital{T: t, store: store, ill: map[vf.Addr]string{}, tries: map[vf.Addr]int{}}
	w, err := quarantine.New(quarantine.Options{Store: store, Restore: h.restore, BootID: boot, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	h.ward = w
	return h
}

func (h *hospital) run() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := h.ward.Run(ctx); err != nil {
			h.Error(err)
		}
	}()
	stop = func() { cancel(); <-done }
	h.Cleanup(stop)
	return stop
}

func (h *hospital) restore(_ context.Context, e quarantine.Entry) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tries[e.VF]++
	if string(e.Note) == "" {
		h.Errorf("VF %s lost its note", e.VF)
	}
	if cause := h.ill[e.VF]; cause != "" {
		return errors.New(cause)
	}
	return nil
}

func (h *hospital) is(a vf.Addr, ill string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ill[a] = ill
}

func (h *hospital) until(what string, ok func() bool) {
	h.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			h.Fatalf("%s: not within %v; %v", what, patience, h.ward.Entries())
		}
	}
}

func entry(a vf.Addr) quarantine.Entry {
	return quarantine.Entry{VF: a, Holder: "pod default/a interface net1", Cause: "PF down", Since: time.Unix(0, 0), Note: json.RawMessage(`{"n":1}`)}
}

func TestInvariant4OutOfUseUntilRestored(t *testing.T) {
	h := open(t, &memory{data: map[string][]byte{}})
	h.is(vf0, "rates: invalid argument")
	if err := h.ward.Admit(entry(vf0)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"default/a", "PF down", "1970-01-01T00:00:00Z"} {
		if c := h.ward.Cause(vf0); !strings.Contains(c, want) {
			t.Errorf("cause %q does not say %s", c, want)
		}
	}
	if c := h.ward.Cause(vf1); c != "" {
		t.Errorf("VF 1: %s", c)
	}
	h.run()
	h.until("the newest cause", func() bool { return strings.Contains(h.ward.Cause(vf0), "rates: invalid argument") })
	h.is(vf0, "")
	h.ward.Poke()
	h.until("release", func() bool { return h.ward.Cause(vf0) == "" })
	if all, _ := h.store.All(); len(all) > 0 {
		t.Errorf("the store still has %v", all)
	}
}

func TestInvariant3SurvivesARestart(t *testing.T) {
	store := &memory{data: map[string][]byte{"made/0000:01:00.0": []byte("{}")}} // another package's
	h := open(t, store)
	h.is(vf0, "busy")
	if err := h.ward.Admit(entry(vf0)); err != nil {
		t.Fatal(err)
	}
	stop := h.run()
	h.until("a try", func() bool { h.mu.Lock(); defer h.mu.Unlock(); return h.tries[vf0] > 0 })
	stop()
	again := open(t, store)
	if c := again.ward.Cause(vf0); c == "" {
		t.Error("forgotten")
	}
	again.run()
	again.until("release", func() bool { return again.ward.Cause(vf0) == "" })
}

// VFs do not outlive a boot, and neither do their quarantines.
func TestRebootEndsIt(t *testing.T) {
	store := &memory{data: map[string][]byte{}}
	if err := open(t, store).ward.Admit(entry(vf0)); err != nil {
		t.Fatal(err)
	}
	h := openIn(t, store, "next boot")
	if all, _ := store.All(); h.ward.Cause(vf0) != "" || len(all) > 0 {
		t.Errorf("cause %q, store %v", h.ward.Cause(vf0), all)
	}
}

func TestOneHoldsUpNoOther(t *testing.T) {
	h := open(t, &memory{data: map[string][]byte{}})
	h.is(vf0, "never")
	for _, a := range []vf.Addr{vf0, vf1} {
		if err := h.ward.Admit(entry(a)); err != nil {
			t.Fatal(err)
		}
	}
	h.run()
	h.until("release of VF 1", func() bool { return h.ward.Cause(vf1) == "" })
	if h.ward.Cause(vf0) == "" {
		t.Error("VF 0 was released although it is ill")
	}
}

// What is not stored has not happened: neither a beginning nor an end.
func TestTheStoreDecides(t *testing.T) {
	store := &memory{data: map[string][]byte{}}
	h := open(t, store)
	store.refuse(errors.New("disk full"))
	if err := h.ward.Admit(entry(vf0)); err == nil || h.ward.Cause(vf0) != "" {
		t.Errorf("admitted without a record: %v", err)
	}
	store.refuse(nil)
	if err := h.ward.Admit(entry(vf0)); err != nil {
		t.Fatal(err)
	}
	store.refuse(errors.New("disk full"))
	h.run()
	h.until("a cause", func() bool { return strings.Contains(h.ward.Cause(vf0), "disk full") })
	store.refuse(nil)
	h.ward.Poke()
	h.until("release", func() bool { return h.ward.Cause(vf0) == "" })
}

func TestUnreadableStoreIsSaid(t *testing.T) {
	for _, text := range []string{"x", "{}"} {
		_, err := quarantine.New(quarantine.Options{
			Store:   &memory{data: map[string][]byte{quarantine.Key(vf0): []byte(text)}},
			Restore: func(context.Context, quarantine.Entry) error { return nil }, Log: slog.New(slog.DiscardHandler),
		})
		if err == nil || !strings.Contains(err.Error(), vf0.String()) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
