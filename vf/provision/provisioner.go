package provision

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tendril-cni/tendril/cni/refusal"
	"github.com/tendril-cni/tendril/vf"
)

// Inventory is where the functions of this machine come from.
type Inventory interface {
	// Snapshot returns the newest inventory; Generation 0 is before the first scan.
	Snapshot() *vf.Snapshot
	// Subscribe returns a channel that gets a value after each change, and a func
	// that ends the subscription.
	Subscribe() (<-chan struct{}, func())
	// Refresh returns when a scan that began after the call is published.
	Refresh(ctx context.Context) error
}

// Kernel is what acts.
type Kernel interface {
	// Claims returns what the host itself uses functions for, as in vf.Observed.
	Claims(*vf.Snapshot) (map[vf.Addr]string, error)
	// Do takes one step and verifies it by reading back. It is called concurrently
	// for different PFs and for different VFs of one PF.
	Do(context.Context, vf.Step) error
}

// Store keeps small values across restarts of the process, not of the machine.
type Store interface {
	// All returns every value by its key.
	All() (map[string][]byte, error)
	// Put returns when the value is kept.
	Put(key string, value []byte) error
	// Delete removes a key; one that is absent is done.
	Delete(key string) error
}

// Options are what a Provisioner is made of. All but Quarantined, Changed and
// PFLink are required.
type Options struct {
	Inventory Inventory
	Kernel    Kernel
	Store     Store
	// InUse returns, at the moment of the call, who uses which VF: a function that
	// names the user ("pod default/a") or returns "". It must know every VF that an
	// attachment has or is about to get, and every one that the kubelet gave to a
	// pod that still runs. An error means that nothing is known to be free.
	InUse func(context.Context) (func(vf.Addr) string, error)
	// Quarantined says why a VF is in quarantine, "" if it is not. It must not
	// block.
	Quarantined func(vf.Addr) string
	// Changed is told of every new State, from Run's goroutine. It must not block.
	Changed func(vf.State)
	// PFLink makes every VF unfit while its PF has no link, whatever its policy
	// says.
	PFLink bool
	// BootID tells this boot from others.
	BootID string
	Log    *slog.Logger
}

// Provisioner applies policies.
type Provisioner struct {
	opts  Options
	state atomic.Pointer[vf.State]
	// poked asks Run to look again.
	poked chan struct{}

	// mu guards policies and known.
	mu       sync.Mutex
	policies []vf.Policy
	known    bool // SetPolicies was called

	busy busy
	// ended gets the PF whose worker has ended. Run reads it.
	ended chan outcome

	// The rest belongs to Run's goroutine.

	workers  map[vf.Addr]bool
	failures map[vf.Addr]*failure
}

// outcome is how a worker ended.
type outcome struct {
	pf  vf.Addr
	err error
}

// New returns a Provisioner that does nothing until Run.
func New(o Options) (*Provisioner, error) {
	for field, given := range map[string]bool{
		"Inventory": o.Inventory != nil, "Kernel": o.Kernel != nil, "Store": o.Store != nil, "InUse": o.InUse != nil, "Log": o.Log != nil,
	} {
		if !given {
			return nil, refusal.New("provisioner", field, nil, "a value")
		}
	}
	if o.Quarantined == nil {
		o.Quarantined = func(vf.Addr) string { return "" }
	}
	if o.Changed == nil {
		o.Changed = func(vf.State) {}
	}
	p := &Provisioner{
		opts: o, poked: make(chan struct{}, 1), ended: make(chan outcome),
		workers: map[vf.Addr]bool{}, failures: map[vf.Addr]*failure{},
	}
	p.state.Store(&vf.State{Snapshot: &vf.Snapshot{}})
	return p, nil
}

// SetPolicies replaces the policies: those that are for this node. Nothing is
// done before the first call.
func (p *Provisioner) SetPolicies(policies []vf.Policy) {
	p.mu.Lock()
	p.policies, p.known = slices.Clone(policies), true
	p.mu.Unlock()
	p.Poke()
}

// Poke makes Run look again, for what shows in neither inventory nor policies,
// such as a VF that came free. It does not wait.
func (p *Provisioner) Poke() {
	select {
	case p.poked <- struct{}{}:
	default:
	}
}

// State returns the newest state. Before the first look its snapshot is empty.
func (p *Provisioner) State() vf.State { return *p.state.Load() }

// Plan observes now and returns what would be done for these policies. It changes
// nothing and needs no Run.
func (p *Provisioner) Plan(ctx context.Context, policies []vf.Policy) ([]vf.Step, error) {
	o, inUse, err := p.Observe(ctx)
	if err != nil {
		return nil, err
	}
	return vf.Plan(o, policies, inUse), nil
}

// Selections are the pools of the policies, as of the newest state: those of a policy
// that is new, or changed, come with what is known of its VFs and not before.
func (p *Provisioner) Selections() []vf.Selection {
	s := p.State()
	assigned := map[vf.Addr]map[string]bool{}
	for _, a := range s.Assignments {
		if assigned[a.PF] == nil {
			assigned[a.PF] = map[string]bool{}
		}
		assigned[a.PF][a.Policy] = true
	}
	refused := func(pf vf.PF, q vf.Policy) bool { return !assigned[pf.Addr][q.Name] }
	return vf.Select(s.Snapshot, s.Policies, refused)
}

// Unfit says why the VF at a must not be given to a pod now, "" if it may. It
// reads memory alone.
func (p *Provisioner) Unfit(a vf.Addr) string {
	if cause := p.opts.Quarantined(a); cause != "" {
		return cause
	}
	if cause := p.Busy(a); cause != "" {
		return cause
	}
	return p.state.Load().Unfit[a]
}

// Busy says what is being done to the VF at a, "" for nothing. Whoever takes a VF
// into use records that, so that InUse shows it, and then asks here; if it is
// busy, the use is given up and tried again later.
func (p *Provisioner) Busy(a vf.Addr) string { return p.busy.with(a) }

func (p *Provisioner) wanted() ([]vf.Policy, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.policies, p.known
}

// sweep is how often Run looks without a reason, and waiting how often while a
// step waits for somebody to let go of a VF: nobody tells when that is.
const (
	sweep   = 30 * time.Second
	waiting = 3 * time.Second
)

// Run applies policies until ctx ends, then waits for its workers and returns nil.
func (p *Provisioner) Run(ctx context.Context) error {
	changes, cancel := p.opts.Inventory.Subscribe()
	defer cancel()
	for {
		next := p.round(ctx)
		timer := time.NewTimer(next)
		select {
		case <-ctx.Done():
			timer.Stop()
			p.drain()
			return nil
		case <-changes:
		case <-p.poked:
		case <-timer.C:
		case o := <-p.ended:
			p.settle(ctx, o)
		}
		timer.Stop()
	}
}

// drain waits for the workers: they end with the ctx of Run, or when the kernel
// has answered a write that nothing can cut short.
func (p *Provisioner) drain() {
	for len(p.workers) > 0 {
		delete(p.workers, (<-p.ended).pf)
	}
}

// settle takes note of how a worker ended, and waits for an inventory that shows
// what it did.
func (p *Provisioner) settle(ctx context.Context, o outcome) {
	delete(p.workers, o.pf)
	p.note(o)
	if err := p.opts.Inventory.Refresh(ctx); err != nil && ctx.Err() == nil {
		p.opts.Log.Warn("inventory not refreshed after a change", "pf", o.pf, "error", err)
	}
}

// round looks once, starts what can be started, publishes, and returns when to
// look again at the latest.
func (p *Provisioner) round(ctx context.Context) time.Duration {
	policies, known := p.wanted()
	if !known || p.opts.Inventory.Snapshot().Generation == 0 || ctx.Err() != nil {
		return sweep
	}
	if len(policies) == 0 && p.idle() {
		p.forget(nil)
		p.publish(vf.Observed{Snapshot: p.opts.Inventory.Snapshot()}, nil, nil)
		return sweep
	}
	o, steps, err := p.decide(ctx, policies)
	if err != nil {
		p.opts.Log.Warn("VF policies are not looked at", "error", err)
		return firstRetry
	}
	p.forget(steps)
	p.finish(o, steps)
	p.start(ctx, steps, o)
	p.publish(o, policies, steps)
	next := p.nextTry()
	if slices.ContainsFunc(steps, vf.Step.Waits) {
		next = min(next, waiting)
	}
	return next
}

// idle reports whether no chain of steps was begun and not finished.
func (p *Provisioner) idle() bool {
	begun, err := p.begun()
	return err == nil && len(begun) == 0
}

// decide plans by the newest snapshot; and again by one that is made for it, if
// there is something to do: events are a moment late.
func (p *Provisioner) decide(ctx context.Context, policies []vf.Policy) (vf.Observed, []vf.Step, error) {
	for fresh := false; ; fresh = true {
		o, inUse, err := p.Observe(ctx)
		if err != nil {
			return o, nil, err
		}
		steps := vf.Plan(o, policies, inUse)
		if fresh || !slices.ContainsFunc(steps, p.startable) {
			return o, steps, nil
		}
		if err := p.opts.Inventory.Refresh(ctx); err != nil {
			return o, nil, err
		}
	}
}

// startable reports whether s would be taken now.
func (p *Provisioner) startable(s vf.Step) bool {
	return s.Blocked == nil && !p.workers[s.PF] && !p.failures[s.PF].waits()
}

// users tells who uses which VF now. One in quarantine is used by whoever brings
// it back to its baseline.
func (p *Provisioner) users(ctx context.Context) (func(vf.Addr) string, error) {
	inUse, err := p.opts.InUse(ctx)
	if err != nil {
		return nil, fmt.Errorf("see which VFs are in use: %w", err)
	}
	return func(a vf.Addr) string {
		if by := inUse(a); by != "" {
			return by
		}
		if cause := p.opts.Quarantined(a); cause != "" {
			return "Tendril itself: " + cause
		}
		return ""
	}, nil
}

// Observe returns all that a plan is made of besides the policies, as it is now:
// see vf.Plan. It changes nothing and needs no Run.
func (p *Provisioner) Observe(ctx context.Context) (vf.Observed, func(vf.Addr) string, error) {
	o := vf.Observed{Snapshot: p.opts.Inventory.Snapshot()}
	inUse, err := p.users(ctx)
	if err != nil {
		return o, nil, err
	}
	if o.Claims, err = p.opts.Kernel.Claims(o.Snapshot); err != nil {
		return o, nil, fmt.Errorf("see what the host uses: %w", err)
	}
	if o.Made, err = p.made(o.Snapshot); err != nil {
		return o, nil, err
	}
	if o.Autoprobe, err = p.begun(); err != nil {
		return o, nil, err
	}
	return o, inUse, nil
}

// start gives each PF with steps that can be taken a worker, unless it has one or
// must wait after a failure.
func (p *Provisioner) start(ctx context.Context, steps []vf.Step, o vf.Observed) {
	byPF := map[vf.Addr][]vf.Step{}
	for _, s := range steps {
		if s.Blocked == nil {
			byPF[s.PF] = append(byPF[s.PF], s)
		}
	}
	for pf, chain := range byPF {
		if !p.startable(chain[0]) {
			continue
		}
		p.workers[pf] = true
		was, _ := o.Snapshot.PF(pf)
		w := &worker{p: p, pf: pf, was: was, steps: chain, vfs: o.Snapshot.Of(pf)}
		go func() { p.ended <- outcome{pf: pf, err: w.run(ctx)} }()
	}
}

func (p *Provisioner) publish(o vf.Observed, policies []vf.Policy, steps []vf.Step) {
	s := vf.State{
		Snapshot: o.Snapshot, Policies: policies, Made: o.Made, Steps: steps, Failures: map[vf.Addr]error{}, Unfit: map[vf.Addr]string{},
		Assignments: vf.Assign(o.Snapshot, policies, o.Refused),
	}
	for pf, f := range p.failures {
		if f.err != nil {
			s.Failures[pf] = f.err
		}
	}
	p.judge(&s)
	old := p.state.Swap(&s)
	if !maps.Equal(old.Unfit, s.Unfit) {
		p.opts.Log.Info("VFs that cannot be given out", "count", len(s.Unfit), "before", len(old.Unfit))
	}
	p.opts.Changed(s)
}

// judge fills in which VFs are unfit.
func (p *Provisioner) judge(s *vf.State) {
	type place struct {
		pf    vf.Addr
		index int
	}
	wanted := make(map[place]vf.Assignment, len(s.Assignments))
	for _, a := range s.Assignments {
		wanted[place{a.PF, a.Index}] = a
	}
	for _, v := range s.Snapshot.VFs {
		pf, _ := s.Snapshot.PF(v.PF)
		cause := p.opts.Quarantined(v.Addr)
		if a, ok := wanted[place{v.PF, v.Index}]; ok && cause == "" {
			cause = a.Unfit(v, pf)
		}
		if cause == "" && p.opts.PFLink && !pf.LinkUp {
			cause = fmt.Sprintf("PF %s has no link", pf.Label())
		}
		if cause != "" {
			s.Unfit[v.Addr] = cause
		}
	}
}
