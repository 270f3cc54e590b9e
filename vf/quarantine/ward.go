package quarantine

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tendril-cni/tendril/cni/refusal"
	"github.com/tendril-cni/tendril/vf"
)

// Entry is one VF in quarantine. Entries are stored and kept across upgrades:
// fields are added, and neither renamed nor given another meaning.
type Entry struct {
	VF vf.Addr `json:"vf"`
	// Holder is who had the VF, in words: "pod default/a interface net1".
	Holder string `json:"holder"`
	// Cause is why it is not at its baseline, as of the last try.
	Cause string    `json:"cause"`
	Since time.Time `json:"since"`
	// Boot tells in which boot of the machine that was.
	Boot string `json:"boot"`
	// Note is all that Restore needs; nobody else reads it.
	Note json.RawMessage `json:"note"`
}

// Text is the cause in the words of a device that is unhealthy.
func (e Entry) Text() string {
	return fmt.Sprintf("in quarantine since %s, not at its baseline after %s: %s", e.Since.UTC().Format(time.RFC3339), e.Holder, e.Cause)
}

// Store keeps entries across restarts of the process, not of the machine.
type Store interface {
	// All returns every value by its key.
	All() (map[string][]byte, error)
	// Put returns when the value is kept.
	Put(key string, value []byte) error
	// Delete removes a key; one that is absent is done.
	Delete(key string) error
}

// Options are what a Ward is made of. All but Changed are required.
type Options struct {
	Store Store
	// Restore brings the VF of e back to its baseline, from e.Note, and returns nil
	// when it has seen it there, or the VF is gone. It is called again and again,
	// concurrently for different VFs.
	Restore func(ctx context.Context, e Entry) error
	// Changed is called after a VF came in or went out. It must not block.
	Changed func()
	// BootID is this boot's; entries of other boots are about VFs that are no more.
	BootID string
	Log    *slog.Logger
}

// Ward is the quarantine of one node.
type Ward struct {
	opts Options
	wake chan struct{}

	// entries has *patient by vf.Addr, for Cause.
	entries sync.Map
	// mu serialises changes of entries and of the Store.
	mu sync.Mutex

	// trying are the VFs of which a try runs. Run's goroutine alone touches it.
	trying map[vf.Addr]bool
}

// patient is an entry and its next try.
type patient struct {
	Entry
	text string
	// Run's goroutine alone touches the rest.

	tries int
	next  time.Time
}

// New returns a Ward with the VFs that the Store has from this boot, and removes
// the entries of earlier ones.
func New(o Options) (*Ward, error) {
	if o.Store == nil || o.Restore == nil || o.Log == nil {
		return nil, refusal.New("quarantine", "Store, Restore, Log", nil, "all of them given")
	}
	if o.Changed == nil {
		o.Changed = func() {}
	}
	w := &Ward{opts: o, wake: make(chan struct{}, 1), trying: map[vf.Addr]bool{}}
	all, err := o.Store.All()
	if err != nil {
		return nil, fmt.Errorf("read quarantine: %w", err)
	}
	for key, data := range all {
		if !strings.HasPrefix(key, keyPrefix) {
			continue
		}
		var e Entry
		if err := json.Unmarshal(data, &e); err != nil || !e.VF.IsValid() {
			return nil, fmt.Errorf("read quarantine of %s: %w", key, cmp.Or(err, errNoVF))
		}
		if e.Boot != o.BootID {
			if err := o.Store.Delete(key); err != nil {
				return nil, fmt.Errorf("end quarantine of %s from an earlier boot: %w", e.VF, err)
			}
			continue
		}
		w.entries.Store(e.VF, &patient{Entry: e, text: e.Text()})
	}
	return w, nil
}

var errNoVF = errors.New("it names no VF")

// keyPrefix is what the keys of this package begin with; the VF's address follows.
const keyPrefix = "quarantine/"

// Key is the key in the Store of the VF at a, and Value what is stored there, for
// a caller that stores an entry in a transaction of its own: it then tells the
// Ward by Noticed. Such a caller fills in Boot.
func Key(a vf.Addr) string { return keyPrefix + a.String() }

// Value is what is stored of e.
func Value(e Entry) ([]byte, error) { return json.Marshal(e) }

// Admit stores e and keeps its VF out of use from now on. A VF that is in already
// gets the new note: it is the later owner's.
func (w *Ward) Admit(e Entry) error {
	e.Boot = w.opts.BootID
	data, err := Value(e)
	if err == nil {
		w.mu.Lock()
		err = w.opts.Store.Put(Key(e.VF), data)
		w.mu.Unlock()
	}
	if err != nil {
		return fmt.Errorf("put VF %s into quarantine: %w", e.VF, err)
	}
	w.Noticed(e)
	return nil
}

// Noticed is Admit for an entry that is in the Store already.
func (w *Ward) Noticed(e Entry) {
	w.mu.Lock()
	w.entries.Store(e.VF, &patient{Entry: e, text: e.Text()})
	w.mu.Unlock()
	w.opts.Log.Warn("VF put into quarantine", "pci", e.VF, "holder", e.Holder, "cause", e.Cause)
	w.opts.Changed()
	w.Poke()
}

// Cause says why the VF at a is in quarantine, "" if it is not.
func (w *Ward) Cause(a vf.Addr) string {
	if p, ok := w.entries.Load(a); ok {
		return p.(*patient).text
	}
	return ""
}

// Entries returns all VFs in quarantine, by address.
func (w *Ward) Entries() []Entry {
	var out []Entry
	for _, p := range w.patients() {
		out = append(out, p.Entry)
	}
	return out
}

func (w *Ward) patients() []*patient {
	var out []*patient
	w.entries.Range(func(_, p any) bool {
		out = append(out, p.(*patient))
		return true
	})
	slices.SortFunc(out, func(a, b *patient) int { return a.VF.Compare(b.VF) })
	return out
}

// Poke tries every VF now: something changed that may have been in the way, such
// as the link of a PF. It does not wait.
func (w *Ward) Poke() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// How long it is until the next try: doubled each time. A poke does not wait.
const (
	firstRetry = time.Second
	lastRetry  = time.Minute
)

// result is the end of one try.
type result struct {
	of  *patient
	err error
}

// Run tries until ctx ends, then waits for the tries that run, and returns nil.
func (w *Ward) Run(ctx context.Context) error {
	results := make(chan result)
	for {
		w.try(ctx, results)
		timer := time.NewTimer(w.pause())
		select {
		case <-ctx.Done():
			timer.Stop()
			for len(w.trying) > 0 {
				w.end(<-results)
			}
			return nil
		case <-w.wake:
			for _, p := range w.patients() {
				p.next = time.Time{}
			}
		case <-timer.C:
		case r := <-results:
			w.end(r)
		}
		timer.Stop()
	}
}

// try starts what is due.
func (w *Ward) try(ctx context.Context, results chan<- result) {
	for _, p := range w.patients() {
		if w.trying[p.VF] || time.Now().Before(p.next) || ctx.Err() != nil {
			continue
		}
		w.trying[p.VF] = true
		go func() { results <- result{p, w.opts.Restore(ctx, p.Entry)} }()
	}
}

// pause is the time until the next try.
func (w *Ward) pause() time.Duration {
	next := lastRetry
	for _, p := range w.patients() {
		if !w.trying[p.VF] {
			next = min(next, max(0, time.Until(p.next)))
		}
	}
	return next
}

// end lets a VF go, or notes the next try.
func (w *Ward) end(r result) {
	p := r.of
	delete(w.trying, p.VF)
	if r.err == nil {
		r.err = w.release(p)
	}
	if r.err == nil {
		return
	}
	p.next = time.Now().Add(min(firstRetry<<min(p.tries, 10), lastRetry))
	if p.tries++; r.err.Error() != p.Cause {
		w.worse(p, r.err.Error())
	}
}

// release takes the VF out, unless a later owner put it in again meanwhile.
func (w *Ward) release(p *patient) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if now, ok := w.entries.Load(p.VF); !ok || now != any(p) {
		return nil
	}
	if err := w.opts.Store.Delete(Key(p.VF)); err != nil {
		return fmt.Errorf("record that it is at its baseline: %w", err)
	}
	w.entries.Delete(p.VF)
	w.opts.Log.Info("VF is at its baseline again, quarantine ended", "pci", p.VF, "holder", p.Holder, "tries", p.tries+1)
	w.opts.Changed()
	return nil
}

// worse replaces the cause that people read.
func (w *Ward) worse(p *patient, cause string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if now, ok := w.entries.Load(p.VF); !ok || now != any(p) {
		return
	}
	n := *p
	n.Cause = cause
	n.text = n.Text()
	w.entries.Store(p.VF, &n)
	w.opts.Log.Warn("VF stays in quarantine", "pci", p.VF, "cause", cause, "tries", n.tries)
	w.opts.Changed()
}
