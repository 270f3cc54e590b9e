package stacked

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netns"
)

// Change is what happened to the parent of an attached interface.
type Change string

// The changes that a Watcher tells.
const (
	// Vanished: the parent is gone, and the kernel took the interface with it.
	Vanished Change = "vanished"
	// Returned: a link of the parent's name is there again, and the interface is
	// not.
	Returned Change = "returned"
	// Shrunk: the parent's MTU fell below the interface's, which follows it.
	Shrunk Change = "shrunk"
	// Grown: the parent's MTU is back, and the interface does not follow it.
	Grown Change = "grown"
)

// Finding is a record whose parent changed.
type Finding struct {
	Record cni.Record
	Change Change
	// Parent is the parent as it is now; with Vanished, as it was.
	Parent Parent
}

// Inspect compares the records with the host's links as they are now. Records
// without a parent on the host, or not attached, are none of its business. It
// finds Vanished, Returned and Shrunk; Grown needs memory, see Watcher.
func Inspect(records []cni.Record) ([]Finding, error) {
	conn, err := netns.Dial(nil)
	if err != nil {
		return nil, err
	}
	var out []Finding
	parents := parents{conn: conn, seen: map[int]netns.Link{}}
	for _, r := range records {
		if _, ok := sweepable[r.Attachment.Kind]; !ok || r.Attachment.Kind == "bridge" || r.Phase != cni.Attached {
			continue
		}
		f, ok, err := parents.inspect(r)
		if err != nil {
			return nil, errors.Join(err, conn.Close())
		}
		if ok {
			out = append(out, f)
		}
	}
	return out, conn.Close()
}

// parents are links of the host, each asked for once: a node's interfaces share a
// few of them.
type parents struct {
	conn *netns.Conn
	seen map[int]netns.Link
}

func (p parents) link(index int) (l netns.Link, err error) {
	if l, ok := p.seen[index]; ok {
		return l, nil
	}
	if l, err = p.conn.LinkByIndex(index); err == nil {
		p.seen[index] = l
	}
	return l, err
}

func (p parents) inspect(r cni.Record) (Finding, bool, error) {
	was, err := Recorded(r.Prior)
	if err != nil || was.Index == 0 {
		return Finding{}, false, err
	}
	l, err := p.link(was.Index)
	switch {
	case err == nil && l.MTU < r.Link.MTU:
		return Finding{r, Shrunk, asParent(l)}, true, nil
	case err == nil:
		return Finding{}, false, nil
	case !errors.Is(err, netns.ErrNotFound):
		return Finding{}, false, err
	}
	l, err = p.conn.LinkByName(was.Name)
	if errors.Is(err, netns.ErrNotFound) {
		return Finding{r, Vanished, was}, true, nil
	}
	return Finding{r, Returned, asParent(l)}, err == nil, err
}

func asParent(l netns.Link) Parent {
	return Parent{Name: l.Name, Index: l.Index, MTU: l.MTU, MAC: l.MAC}
}

// Watcher follows the parents of attached interfaces. Fill all fields and call
// Run.
type Watcher struct {
	// Records returns every record of the node, as it is now.
	Records func() ([]cni.Record, error)
	// Repair mends what can be mended (Returned, Grown) and stores the new record;
	// see Mend. It may be called again for the same finding if it fails.
	Repair func(ctx context.Context, f Finding) error
	// Report tells people of a finding: err is nil for a repair that succeeded and
	// says why otherwise.
	Report func(f Finding, err error)
	Log    *slog.Logger
}

// errParent is what is reported of changes that only the host can undo.
var errParent = errors.New("the parent on the host changed")

const (
	// settle lets a burst of changes pass, such as the restart of a network service.
	// Pods that come and go change links all the time: where reading everything takes
	// long, the pause is spaced times as long, and worst at most.
	settle = 100 * time.Millisecond
	spaced = 20
	worst  = 2 * time.Second
	// resync is the pause after which everything is looked at without any event.
	resync = time.Minute
)

// Run watches until ctx ends. It looks at everything at the start, at each change
// of a host's link and once a minute.
func (w *Watcher) Run(ctx context.Context) error {
	events, failed, err := netns.LinkEvents(ctx)
	if err != nil {
		return err
	}
	told := map[key]Change{}
	tick := time.NewTicker(resync)
	defer tick.Stop()
	for {
		took, err := w.look(ctx, told)
		if err != nil {
			w.Log.Warn("parents of interfaces not read", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case _, ok := <-events:
			if !ok {
				return failed()
			}
		case <-tick.C:
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(min(max(settle, spaced*took), worst)):
		}
	}
}

// key is an attachment.
type key struct{ container, ifName string }

// look tells each finding once and repairs until it succeeds. It returns how long
// the reading took.
func (w *Watcher) look(ctx context.Context, told map[key]Change) (took time.Duration, err error) {
	start := time.Now()
	records, err := w.Records()
	if err != nil {
		return 0, err
	}
	findings, err := Inspect(records)
	if took = time.Since(start); err != nil {
		return took, err
	}
	found := map[key]bool{}
	for _, f := range findings {
		found[keyOf(f.Record)] = true
		w.tell(ctx, f, told)
	}
	for _, r := range records {
		k := keyOf(r)
		if told[k] == Shrunk && !found[k] {
			p, err := Recorded(r.Prior)
			if err != nil {
				return took, err
			}
			w.tell(ctx, Finding{r, Grown, p}, told)
		}
	}
	for k := range told {
		if !found[k] && told[k] != Shrunk {
			delete(told, k)
		}
	}
	return took, nil
}

func (w *Watcher) tell(ctx context.Context, f Finding, told map[key]Change) {
	k := keyOf(f.Record)
	var err error
	switch f.Change {
	case Returned, Grown:
		if err = w.Repair(ctx, f); err == nil {
			delete(told, k)
			w.Report(f, nil)
			return
		}
	default:
		err = fmt.Errorf("%s %s: %w", f.Parent.Name, f.Change, errParent)
	}
	if told[k] != f.Change {
		w.Report(f, err)
	}
	if f.Change != Grown { // it stays Shrunk until it is mended
		told[k] = f.Change
	}
}

func keyOf(r cni.Record) key { return key{r.Attachment.ContainerID, r.Attachment.IfName} }

// Mend does what a finding asks for and returns the record as it is afterwards:
// an interface whose parent returned is made again, with the same addresses and
// MAC; one that a smaller MTU of its parent shrank gets its MTU back. The caller
// holds the pod's lock, and stores the record.
func Mend(ctx context.Context, ns *os.File, d cni.Driver, f Finding) (cni.Record, error) {
	r := f.Record
	switch f.Change {
	case Grown:
		conn, err := netns.Dial(ns)
		if err != nil {
			return r, err
		}
		l, err := conn.Find(owner(r, sweepable[r.Attachment.Kind]))
		if err == nil {
			_, err = conn.Configure(ctx, l.Index, netns.Setup{MTU: r.Link.MTU})
		}
		return r, errors.Join(err, conn.Close())
	case Returned:
		if err := d.Detach(ctx, ns, r); err != nil {
			return r, err
		}
		a := r.Attachment
		a.MAC = kept(r)
		prior, err := d.Prior(ctx, a)
		if err != nil {
			return r, err
		}
		again := r
		again.Attachment, again.Prior, again.Link = a, prior, cni.Link{}
		if again.Link, err = d.Attach(ctx, ns, again); err != nil {
			return r, err
		}
		again.Attachment.MAC = r.Attachment.MAC
		return again, nil
	}
	return r, fmt.Errorf("mend %s: %w", r.Attachment.IfName, errParent)
}

// kept is the hardware address that an interface has to have again: a macvlan's
// own. Those of the other kinds are their parent's.
func kept(r cni.Record) string {
	if r.Attachment.Kind == "macvlan" {
		return r.Link.MAC
	}
	return r.Attachment.MAC
}
