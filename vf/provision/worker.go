package provision

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/tendril-cni/tendril/vf"
)

// worker takes the steps of one PF.
type worker struct {
	p     *Provisioner
	pf    vf.Addr
	was   vf.PF
	steps []vf.Step
	// vfs are those that the PF had when the steps were planned.
	vfs []vf.VF
}

// atOnce is how many VFs of a PF are worked on at the same time. Probing drivers
// is bound by the PF's mailbox; more would only wait there.
const atOnce = 8

// run takes the steps in order. Those on VFs that follow each other are taken at
// once for different VFs; one that fails leaves the other VFs alone, and ends the
// chain behind it.
func (w *worker) run(ctx context.Context) error {
	for i := 0; i < len(w.steps); {
		if err := ctx.Err(); err != nil {
			return err
		}
		if w.steps[i].Index < 0 {
			if err := w.take(ctx, w.steps[i]); err != nil {
				return err
			}
			i++
			continue
		}
		end := i
		for end < len(w.steps) && w.steps[end].Index >= 0 {
			end++
		}
		if err := w.together(ctx, w.steps[i:end]); err != nil {
			return err
		}
		i = end
	}
	return nil
}

// together takes steps of several VFs; those of one VF stay in order.
func (w *worker) together(ctx context.Context, steps []vf.Step) error {
	byVF := map[int][]vf.Step{}
	for _, s := range steps {
		byVF[s.Index] = append(byVF[s.Index], s)
	}
	var g errgroup.Group
	g.SetLimit(atOnce)
	errs := make(chan error, len(byVF))
	for _, chain := range byVF {
		g.Go(func() error {
			for _, s := range chain {
				if err := w.take(ctx, s); err != nil {
					errs <- err
					break
				}
			}
			return nil
		})
	}
	_ = g.Wait()
	close(errs)
	var all []error
	for err := range errs {
		all = append(all, err)
	}
	return errors.Join(all...)
}

// take records, makes sure that nobody is hurt, and acts.
func (w *worker) take(ctx context.Context, s vf.Step) error {
	release, err := w.seize(ctx, s)
	if err != nil {
		return fmt.Errorf("%s: %w", s, err)
	}
	defer release()
	if err := w.p.record(s, w.was); err != nil {
		return fmt.Errorf("%s: %w", s, err)
	}
	if err := w.p.opts.Kernel.Do(ctx, s); err != nil {
		return fmt.Errorf("%s: %w", s, err)
	}
	w.p.opts.Log.Info("VF policy step taken", "pf", w.pf, "step", s.String(), "policy", s.Policy)
	return nil
}

// seize marks the VFs that s would disturb as busy, and then looks whether one of
// them is used (invariant 3).
func (w *worker) seize(ctx context.Context, s vf.Step) (release func(), err error) {
	var touched []vf.VF
	for _, v := range w.vfs {
		switch s.Op {
		case vf.Remove, vf.Create, vf.RaiseMTU:
			touched = append(touched, v)
		case vf.Bind, vf.SetMTU:
			if v.Index == s.Index {
				touched = append(touched, v)
			}
		}
	}
	if len(touched) == 0 && s.Index >= 0 {
		return func() {}, nil
	}
	release = w.p.busy.mark(touched, s.String())
	inUse, err := w.p.users(ctx)
	if err != nil {
		release()
		return nil, err
	}
	if by := inUse(w.pf); by != "" && s.Index < 0 && s.Op != vf.Autoprobe {
		release()
		return nil, fmt.Errorf("the PF itself is used by %s: %w", by, vf.ErrInUse)
	}
	for _, v := range touched {
		if by := inUse(v.Addr); by != "" {
			release()
			return nil, fmt.Errorf("VF %d (%s) is used by %s: %w", v.Index, v.Addr, by, vf.ErrInUse)
		}
	}
	return release, nil
}

// busy are the VFs that are being worked on.
type busy struct {
	// mu guards what.
	mu   sync.Mutex
	what map[vf.Addr]string
}

func (b *busy) mark(vfs []vf.VF, what string) (release func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.what == nil {
		b.what = map[vf.Addr]string{}
	}
	for _, v := range vfs {
		b.what[v.Addr] = what
	}
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, v := range vfs {
			delete(b.what, v.Addr)
		}
	}
}

func (b *busy) with(a vf.Addr) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.what[a]
}
