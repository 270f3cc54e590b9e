package sysfs

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tendril-cni/tendril/vf"
)

// How long the inventory waits. A single change is seen at once, but for a moment
// in which its other events come. Making the VFs of a PF raises some dozens in a
// row, which few scans serve: between two of them there is four times the
// processor time that one takes (and no more than worst), so that a storm of
// events costs a fifth of one CPU at most. The time that a scan only waits does not
// count: the kernel answers sriov_numvfs when it has made the VFs, seconds later
// (sriov_numvfs_show takes the device's lock, drivers/pci/iov.c). The sweep is for
// what raises no event.
const (
	gather = 20 * time.Millisecond
	spaced = 4
	worst  = 600 * time.Millisecond
	sweep  = time.Minute
)

// Options are what an Inventory may be given besides its tree. The zero value
// works.
type Options struct {
	// AltNames returns the alternative names of the host's network devices by
	// device name. sysfs does not have them; nil leaves them empty.
	AltNames func() (map[string][]string, error)
	// Profiles returns the names of the packages that NICs have loaded (DDP), by
	// the PCI address of the PF. devlink has them, sysfs does not; nil leaves them
	// empty.
	Profiles func() (map[vf.Addr]string, error)
	// Events wakes the inventory in place of the kernel's uevents and link events:
	// each value is one event. It is meant for trees that are no real sysfs, which
	// have none.
	Events <-chan struct{}
}

// Inventory publishes what Scan finds and keeps it fresh.
type Inventory struct {
	fs   *FS
	log  *slog.Logger
	opts Options

	current atomic.Pointer[vf.Snapshot]
	asked   chan chan error // requests of Refresh, answered by Run

	// mu guards subscribers.
	mu          sync.Mutex
	subscribers map[chan struct{}]bool

	// took is the processor time of the last scan, and ended when it was over. Run
	// alone touches them.
	took  time.Duration
	ended time.Time
	// named holds the texts of what the last scan skipped, so that each is logged
	// once and not once a minute. Run alone touches it.
	named map[string]bool
}

// NewInventory returns an inventory of fs. Its snapshot is empty, with Generation
// 0, until Run has scanned.
func NewInventory(fs *FS, log *slog.Logger, opts Options) *Inventory {
	i := &Inventory{fs: fs, log: log, opts: opts, asked: make(chan chan error), subscribers: map[chan struct{}]bool{}}
	i.current.Store(&vf.Snapshot{})
	return i
}

// Snapshot returns the newest inventory, never nil. It takes no lock and reads no
// file. The caller must not change it.
func (i *Inventory) Snapshot() *vf.Snapshot { return i.current.Load() }

// Subscribe returns a channel that gets a value after every change of the
// snapshot; values that nobody fetched are merged into one. cancel ends the
// subscription, may be called twice, and leaves the channel open.
func (i *Inventory) Subscribe() (changes <-chan struct{}, cancel func()) {
	c := make(chan struct{}, 1)
	i.mu.Lock()
	defer i.mu.Unlock()
	i.subscribers[c] = true
	return c, func() {
		i.mu.Lock()
		defer i.mu.Unlock()
		delete(i.subscribers, c)
	}
}

// Refresh waits until a scan that began after the call has been published, and
// returns that scan's error, or ctx's where Run did not get to it.
func (i *Inventory) Refresh(ctx context.Context) error {
	done := make(chan error, 1)
	select {
	case i.asked <- done:
	case <-ctx.Done():
		return fmt.Errorf("refresh inventory: %w", ctx.Err())
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("refresh inventory: %w", ctx.Err())
	}
}

// Run scans once, then after each burst of events, on Refresh, and every minute,
// until ctx ends; it then returns nil. The first scan's error ends it, because a
// node whose bus cannot be listed has nothing to offer; later ones are logged and
// the last good snapshot stays.
func (i *Inventory) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	events, wait, err := i.events(ctx)
	if err != nil {
		return err
	}
	defer wait()
	defer stop() // runs before wait
	if err := i.scan(); err != nil {
		return err
	}
	minute := time.NewTicker(sweep)
	defer minute.Stop()
	return i.loop(ctx, events, minute.C)
}

func (i *Inventory) loop(ctx context.Context, events <-chan struct{}, minute <-chan time.Time) error {
	var due <-chan time.Time // armed while a burst is collected
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, open := <-events:
			if !open {
				events = nil
			} else if due == nil {
				due = time.After(max(gather, min(spaced*i.took, worst)-time.Since(i.ended)))
			}
		case done := <-i.asked:
			done <- i.scan()
		case <-minute:
			i.warn(i.scan())
		case <-due:
			due = nil
			i.warn(i.scan())
		}
	}
}

// events returns the source of wake-ups, and a function that waits until the
// source has ended (it ends with ctx).
func (i *Inventory) events(ctx context.Context) (<-chan struct{}, func(), error) {
	if i.opts.Events != nil {
		return i.opts.Events, func() {}, nil
	}
	if i.fs.root != "/sys" {
		return nil, func() {}, nil
	}
	return kernelEvents(ctx, i.log)
}

// kernelEvents joins the two sources of the kernel.
func kernelEvents(ctx context.Context, log *slog.Logger) (<-chan struct{}, func(), error) {
	devices, wait1, err := uevents(ctx, log)
	if err != nil {
		return nil, nil, err
	}
	links, wait2, err := linkEvents(ctx, log)
	if err != nil {
		return nil, nil, err
	}
	both, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-ctx.Done():
				return
			case <-devices:
			case <-links:
			}
			select {
			case <-ctx.Done():
				return
			case both <- struct{}{}:
			}
		}
	}()
	return both, func() { wait1(); wait2(); <-ended }, nil
}

func (i *Inventory) warn(err error) {
	if err != nil {
		i.log.Warn("inventory kept as it was", "error", err)
	}
}

// scan publishes a new snapshot where something changed.
func (i *Inventory) scan() error {
	snap, err := i.measured()
	if err != nil {
		return err
	}
	last := i.current.Load()
	carry(last, &snap)
	if last.Generation > 0 && last.Equal(&snap) {
		return nil
	}
	snap.Generation = last.Generation + 1
	i.current.Store(&snap)
	i.log.Debug("inventory changed", "generation", snap.Generation, "pfs", len(snap.PFs), "vfs", len(snap.VFs))
	i.wake()
	return nil
}

// measured scans and takes note of what that cost.
func (i *Inventory) measured() (vf.Snapshot, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before := threadTime()
	snap, err := i.look()
	i.took, i.ended = threadTime()-before, time.Now()
	return snap, err
}

// look asks everything that a snapshot is made of.
func (i *Inventory) look() (vf.Snapshot, error) {
	snap, skipped, err := i.fs.Scan()
	if err != nil {
		return snap, fmt.Errorf("scan PCI bus: %w", err)
	}
	i.name(skipped)
	i.altNames(&snap)
	i.profiles(&snap)
	return snap, nil
}

// threadTime is the processor time that the calling thread has had (getrusage(2)).
func threadTime() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_THREAD, &u); err != nil {
		return 0 // the wait is the shortest one then
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// name logs what is skipped now and was not before.
func (i *Inventory) name(skipped []Skipped) {
	now := map[string]bool{}
	for _, s := range skipped {
		text := s.Error()
		if now[text] = true; !i.named[text] {
			i.log.Warn("inventory goes on without", "path", s.Path, "error", s.Err)
		}
	}
	i.named = now
}

// altNames fills in the alternative names. Those that cannot be read now are what
// they were: whoever selects NICs by them would lose all of their VFs.
func (i *Inventory) altNames(snap *vf.Snapshot) {
	if i.opts.AltNames == nil {
		return
	}
	names, err := i.opts.AltNames()
	if err != nil {
		i.log.Warn("inventory keeps what it knew", "path", "alternative names", "error", err)
	}
	for n := range snap.PFs {
		p := &snap.PFs[n]
		if err == nil {
			p.AltNames = names[p.Netdev]
		} else if old, ok := i.Snapshot().PF(p.Addr); ok && old.Netdev == p.Netdev {
			p.AltNames = old.AltNames
		}
	}
}

// profiles is altNames for DDP profiles.
func (i *Inventory) profiles(snap *vf.Snapshot) {
	if i.opts.Profiles == nil {
		return
	}
	names, err := i.opts.Profiles()
	if err != nil {
		i.log.Warn("inventory keeps what it knew", "path", "DDP profiles", "error", err)
	}
	for n := range snap.PFs {
		p := &snap.PFs[n]
		if err == nil {
			p.DDPProfile = names[p.Addr]
		} else if old, ok := i.Snapshot().PF(p.Addr); ok {
			p.DDPProfile = old.DDPProfile
		}
	}
}

// carry keeps what a VF takes along into a pod: its RDMA devices, where the RDMA
// subsystem separates namespaces. Which VFs have RDMA must not change with where
// they are.
func carry(last, snap *vf.Snapshot) {
	for n := range snap.VFs {
		v := &snap.VFs[n]
		if v.Netdev != "" || len(v.RDMA) > 0 || v.Driver == "" {
			continue
		}
		if old, ok := last.VF(v.Addr); ok && old.Driver == v.Driver {
			v.RDMA, v.PKey = old.RDMA, old.PKey
		}
	}
}

func (i *Inventory) wake() {
	i.mu.Lock()
	defer i.mu.Unlock()
	for c := range i.subscribers {
		select {
		case c <- struct{}{}:
		default: // it has one waiting already
		}
	}
}
