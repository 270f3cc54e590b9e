package node

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/loan"
	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/cni/rpc"
	"github.com/tendril-cni/tendril/cni/spool"
)

const (
	// redeemTime bounds one DEL of the spool.
	redeemTime = 20 * time.Second
	// firstTime bounds what is done of the spool before the socket is served.
	firstTime = time.Minute
	// debtPeriod is how often the spool is looked at without being told.
	debtPeriod = 2 * time.Second
	// firstPause and lastPause are the shortest and the longest time after which a DEL
	// whose plugins failed is tried again: each try takes time from a call of the
	// runtime that has nothing to do with it.
	firstPause = 4 * time.Second
	lastPause  = 5 * time.Minute
	// askTime is how long one DEL waits for a call of the runtime before the spool
	// is looked at again.
	askTime = 20 * time.Second
	// lendTime is in how much of its time a call begins with what is owed. A call
	// for a pod should not wait long, and STATUS tells the kubelet whether the node
	// is ready.
	lendTime = time.Second
	// statusPause lies between two STATUS calls that lend: the kubelet asks every
	// few seconds, and takes a node for down whose answers are slow.
	statusPause = 30 * time.Second
)

// debts are the DELs that are owed: answered while no daemon listened, or due for
// a sandbox that no runtime remembers. What needs no plugin is done at once; the
// rest waits in the spool, on disk, for a call of the runtime in whose place its
// plugins can run.
type debts struct {
	engine *cni.Engine
	spool  *spool.Spool
	desk   *loan.Desk
	// settled is called for a container whose DEL is done.
	settled func(container string)
	counts  *counts
	log     *slog.Logger
	poke    chan struct{}
	// failed are the DELs whose plugins have failed, by container and interface. It is
	// run's alone.
	failed map[[2]string]failure
	// said is what was last logged of a DEL, by container and interface, and of the
	// directory, by nothing. It is run's, and first's before it.
	said map[[2]string]complaint
}

// complaint is a line of the log, and when it was written.
type complaint struct {
	text string
	at   time.Time
}

// failure is when plugins have failed last, and for how long they rest.
type failure struct {
	at    time.Time
	pause time.Duration
}

// first does what can be done before the socket is served.
func (d *debts) first(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, firstTime)
	defer cancel()
	d.each(ctx, func(e spool.Entry) error { return d.redeem(ctx, e, nil) })
}

// run works off what is left until ctx ends.
func (d *debts) run(ctx context.Context) error {
	tick := time.NewTicker(debtPeriod)
	defer tick.Stop()
	for {
		d.round(ctx)
		select {
		case <-tick.C:
		case <-d.poke:
		case <-ctx.Done():
			return nil
		}
	}
}

// round does everything that needs no plugin, and then as much of the rest as
// calls of the runtime let it. What has failed before comes last.
func (d *debts) round(ctx context.Context) {
	var wait []spool.Entry
	d.each(ctx, func(e spool.Entry) error {
		err := d.redeem(ctx, e, nil)
		if cni.NeedsRuntime(err) {
			wait = append(wait, e)
		}
		return err
	})
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	for _, e := range d.due(wait) {
		began := false
		err := d.desk.Borrow(ctx, func(ctx context.Context, run cni.Runner) error {
			began = true
			return d.redeem(ctx, e, run)
		})
		if began && err != nil {
			d.rest(e)
			d.complain(e, err)
		}
		if ctx.Err() != nil {
			return
		}
	}
}

// due returns those of wait whose time has come, and forgets what waits no more.
func (d *debts) due(wait []spool.Entry) []spool.Entry {
	failed := map[[2]string]failure{}
	var out []spool.Entry
	for _, e := range wait {
		f, ok := d.failed[entryKey(e)]
		if ok {
			failed[entryKey(e)] = f
		}
		if time.Since(f.at) >= f.pause {
			out = append(out, e)
		}
	}
	d.failed = failed
	slices.SortStableFunc(out, func(a, b spool.Entry) int { return failed[entryKey(a)].at.Compare(failed[entryKey(b)].at) })
	return out
}

// rest notes that e's plugins have failed now.
func (d *debts) rest(e spool.Entry) {
	pause := min(max(2*d.failed[entryKey(e)].pause, firstPause), lastPause)
	d.failed[entryKey(e)] = failure{at: time.Now(), pause: pause}
}

func entryKey(e spool.Entry) [2]string { return [2]string{e.Request.ContainerID, e.Request.IfName} }

// owe puts a call into the spool that no runtime will make.
func (d *debts) owe(r cni.Request) error {
	err := d.spool.Put(rpc.Request{ID: cni.NewCallID("audit"), Command: "DEL", ContainerID: r.ContainerID, IfName: r.IfName, NetnsPath: r.NetnsPath, StdinData: []byte(`{}`)})
	select {
	case d.poke <- struct{}{}:
	default:
	}
	return err
}

func (d *debts) each(ctx context.Context, settle func(spool.Entry) error) {
	entries, err := d.spool.List()
	d.forget(entries)
	if err != nil && d.anew([2]string{}, err) {
		d.log.Warn("entries of the spool cannot be read", "spool", d.spool.Dir(), "error", err)
	}
	for _, e := range entries {
		if ctx.Err() != nil {
			return
		}
		d.complain(e, settle(e))
	}
}

func (d *debts) complain(e spool.Entry, err error) {
	if err != nil && !cni.NeedsRuntime(err) && !errors.Is(err, context.Canceled) && d.anew(entryKey(e), err) {
		d.log.Warn("spooled DEL not done yet", "container", e.Request.ContainerID, "since", e.Since, "error", err)
	}
}

// anew reports whether err is not what was logged of the same in the last minutes:
// the spool is looked at every other second.
func (d *debts) anew(of [2]string, err error) bool {
	last, now := d.said[of], time.Now()
	if last.text == err.Error() && now.Sub(last.at) < lastPause {
		return false
	}
	if d.said == nil {
		d.said = map[[2]string]complaint{}
	}
	d.said[of] = complaint{text: err.Error(), at: now}
	return true
}

// forget drops what was said of DELs that are no longer in the spool.
func (d *debts) forget(entries []spool.Entry) {
	maps.DeleteFunc(d.said, func(of [2]string, _ complaint) bool {
		return of != [2]string{} && !slices.ContainsFunc(entries, func(e spool.Entry) bool { return entryKey(e) == of })
	})
}

// redeem does one DEL and takes it out of the spool.
func (d *debts) redeem(ctx context.Context, e spool.Entry, run cni.Runner) error {
	r := e.Request
	ctx, cancel := context.WithTimeout(cni.WithCallID(ctx, r.ID), redeemTime)
	defer cancel()
	err := d.engine.Redeem(ctx, cni.Request{
		ContainerID: r.ContainerID, IfName: r.IfName, NetnsPath: r.NetnsPath, Args: netconf.Args(r.Args), Path: r.Path, Config: r.StdinData, Run: run,
	})
	d.counts.redeemed(err)
	if err != nil {
		return err
	}
	d.log.InfoContext(ctx, "spooled DEL done", "container", r.ContainerID, "ifname", r.IfName, "since", e.Since)
	d.settled(r.ContainerID)
	return d.spool.Done(e)
}

// lending has calls of the runtime lend their place to what is owed, before they
// are served themselves.
type lending struct {
	rpc.Handler
	desk *loan.Desk
	dirs func() []string
	// deleted is called after a DEL that succeeded.
	deleted func(container string)
	// asked is when a STATUS lent last, in nanoseconds since the epoch.
	asked *atomic.Int64
}

// Handle implements rpc.Handler.
func (l lending) Handle(ctx context.Context, call *rpc.Call) rpc.Reply {
	if call.Command != "STATUS" {
		l.desk.Lend(ctx, runner(call, l.dirs), lendTime)
	} else if last, now := l.asked.Load(), time.Now().UnixNano(); now-last > int64(statusPause) && l.asked.CompareAndSwap(last, now) {
		l.desk.Lend(ctx, runner(call, l.dirs), 0)
	}
	reply := l.Handler.Handle(ctx, call)
	if call.Command == "DEL" && reply.ExitCode == 0 {
		l.deleted(call.ContainerID)
	}
	return reply
}
