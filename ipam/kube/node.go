package kube

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/client-go/rest"

	"github.com/tendril-cni/tendril/cni/refusal"
	"github.com/tendril-cni/tendril/ipam"
)

// Journal is where the node's ledger lives.
type Journal interface {
	// Update runs fn in a read-write transaction that is thrown away when fn
	// returns an error.
	Update(step string, fn func(ipam.Store) error) error
	// View runs fn on a consistent state; fn does not write.
	View(fn func(ipam.Store) error) error
}

// Options of a Node. Zero durations mean the defaults.
type Options struct {
	// Name is the node's name, UID that of its Node object.
	Name, UID string
	Journal   Journal
	Log       *slog.Logger
	// CoolDown is how long a freed address is kept from strangers; 2 s.
	CoolDown time.Duration
	// Patience is how long a claim waits for others to give slots back before it
	// says that there are none; 4 s.
	Patience time.Duration
	// Poll is how often the node looks whether somebody wants slots that it has
	// idle; 10 s. For slots in use it looks at a third of that rate.
	Poll time.Duration
	// IdleAfter is how long a window that nobody uses is kept; 5 min.
	IdleAfter time.Duration
	// Quarantine is how long an address that answered a probe is set aside; 10 min.
	Quarantine time.Duration
	// Call bounds one call to the API server; 4 s.
	Call time.Duration
	// Peer, if set, is asked for every slot before it is claimed, and told of every
	// slot that is given back: another allocator of the same addresses, during a
	// change-over. Windows are then no larger than what is needed.
	Peer Peer
	// Lost, if set, is told of an address that an attachment of this node has
	// although the node lost the slot.
	Lost func(space string, a netip.Addr, holder ipam.Owner)
}

// Peer is another allocator of the same addresses.
type Peer interface {
	// Take makes an address ours in the peer's eyes, and says whether it is.
	// Taking what is ours already succeeds.
	Take(ctx context.Context, space string, a netip.Addr) (bool, error)
	// Give undoes Take. Giving what is not ours does nothing.
	Give(ctx context.Context, space string, a netip.Addr) error
}

// tick is how often the keeper looks at the ledger.
const tick = 250 * time.Millisecond

func (o *Options) defaults() {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{{&o.CoolDown, 2 * time.Second}, {&o.Patience, 4 * time.Second}, {&o.Poll, 10 * time.Second}, {&o.IdleAfter, 5 * time.Minute}, {&o.Quarantine, 10 * time.Minute}, {&o.Call, callTime}} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
}

// Node claims slots for one node and gives them back.
type Node struct {
	Options
	blocks *Blocks
	// ipamClaims are the sticky owners.
	ipamClaims *IPAMClaims

	uid atomic.Pointer[string]
	// peer is Options.Peer, or what Alongside told.
	peer atomic.Pointer[Peer]

	mu sync.Mutex // guards the fields below
	// cells has a lock for each block that is being worked on; spaces one for the
	// claims of each space.
	cells  map[place]*lock
	spaces map[string]*lock
	// last is where the last claim of a range found slots; claims counts them.
	last   map[string]uint64
	claims map[string]int
}

// place is one cell of one space.
type place struct {
	space string
	cell  ipam.Cell
}

// New returns a Node. Somebody has to call Run.
func New(config *rest.Config, o Options) (*Node, error) {
	o.defaults()
	blocks, err := NewBlocks(config)
	if err != nil {
		return nil, err
	}
	claims, err := NewIPAMClaims(config)
	if err != nil {
		return nil, err
	}
	blocks.calls, claims.calls = o.Call, o.Call
	n := &Node{
		Options: o, blocks: blocks, ipamClaims: claims,
		cells: map[place]*lock{}, spaces: map[string]*lock{},
		last: map[string]uint64{}, claims: map[string]int{},
	}
	n.Identify(o.UID)
	n.Alongside(o.Peer)
	return n, nil
}

// Identify tells the uid of the Node object, when it changed: from then on slots
// are claimed under it, and those in use taken over to it when they are next
// looked at.
func (n *Node) Identify(uid string) { n.uid.Store(&uid) }

// Alongside is Options.Peer for one that is found later; nil is none. It has to be
// told before the first Claim that it matters to.
func (n *Node) Alongside(p Peer) { n.peer.Store(&p) }

func (n *Node) other() Peer { return *n.peer.Load() }

func isRefusal(err error) bool {
	var r *refusal.Refusal
	return errors.As(err, &r) || errors.Is(err, ipam.ErrExhausted)
}

func (n *Node) nodeUID() string { return *n.uid.Load() }

// lock is a mutex that can be waited for with a deadline. users counts who has
// or wants it; Node.mu guards it.
type lock struct {
	held  chan struct{}
	users int
}

// acquire takes the lock of key in locks, and returns the function that gives it
// up. A lock that nobody uses is dropped from the map.
func acquire[K comparable](ctx context.Context, mu *sync.Mutex, locks map[K]*lock, key K) (release func(), err error) {
	mu.Lock()
	l := locks[key]
	if l == nil {
		l = &lock{held: make(chan struct{}, 1)}
		locks[key] = l
	}
	l.users++
	mu.Unlock()
	leave := func() {
		mu.Lock()
		defer mu.Unlock()
		if l.users--; l.users == 0 {
			delete(locks, key)
		}
	}
	select {
	case l.held <- struct{}{}:
		return func() { <-l.held; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
}

// waiting is how many claims of a space are under way, the caller's included.
func (n *Node) waiting(space string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	if l := n.spaces[space]; l != nil {
		return l.users
	}
	return 1
}

// view runs fn on the ledger without writing.
func (n *Node) view(fn func(*ipam.Ledger)) error {
	return n.Journal.View(func(s ipam.Store) error {
		l := ipam.NewLedger(s)
		fn(l)
		return l.Err()
	})
}

// update runs fn on the ledger in a transaction.
func (n *Node) update(step string, fn func(*ipam.Ledger)) error {
	return n.Journal.Update(step, func(s ipam.Store) error {
		l := ipam.NewLedger(s)
		fn(l)
		return l.Err()
	})
}

func (n *Node) holding(p place) (h ipam.Holding, err error) {
	err = n.view(func(l *ipam.Ledger) { h = l.Holding(p.space, p.cell) })
	return h, err
}
