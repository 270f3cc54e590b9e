package kube_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/tendril-cni/tendril/ipam"
	"github.com/tendril-cni/tendril/ipam/kube"
	"github.com/tendril-cni/tendril/ipam/reclaim"
	"github.com/tendril-cni/tendril/ipam/v1alpha1"
)

// audit is the history of addresses, judged as it is made: an address is a pod's
// from the moment that its reservation is committed until right before its
// release begins.
type audit struct {
	mu         sync.Mutex
	holders    map[netip.Addr]string
	duplicates []string
	given      int
}

func (a *audit) take(addr netip.Addr, who string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if was, ok := a.holders[addr]; ok && was != who {
		a.duplicates = append(a.duplicates, fmt.Sprintf("%s: %s and %s", addr, was, who))
	}
	a.holders[addr] = who
	a.given++
}

func (a *audit) drop(addr netip.Addr, who string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.holders[addr] == who {
		delete(a.holders, addr)
	}
}

func (a *audit) ask(what func(*audit) bool) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return what(a)
}

// fleet is the world of the proof.
type fleet struct {
	t       *testing.T
	audit   *audit
	configs []ipam.Config
	members []*member
}

// member is one node and its pods. Its goroutine alone uses it.
type member struct {
	*box
	fleet  *fleet
	client kubernetes.Interface
	next   int
	// pods are those that run; begun are all that ever reached Reserve and were
	// not released since, as the engine's records would say after a crash.
	pods  map[int][]netip.Addr
	begun map[int]ipam.Config
}

func newFleet(t *testing.T, nodes int, configs ...ipam.Config) *fleet {
	f := &fleet{t: t, audit: &audit{holders: map[netip.Addr]string{}}, configs: configs}
	client, err := kubernetes.NewForConfig(server.Config(t))
	if err != nil {
		t.Fatal(err)
	}
	for i := range nodes {
		b := newBox(t, server.Config(t), fmt.Sprintf("f%d-%s", i, configs[0].Cluster.Space))
		b.options = kube.Options{CoolDown: 200 * time.Millisecond, Patience: 500 * time.Millisecond, Poll: 500 * time.Millisecond,
			IdleAfter: 2 * time.Second, Call: 500 * time.Millisecond}
		m := &member{box: b, fleet: f, client: client, pods: map[int][]netip.Addr{}, begun: map[int]ipam.Config{}}
		m.join()
		b.start(t)
		f.members = append(f.members, m)
	}
	return f
}

// join makes the Node object.
func (m *member) join() {
	m.fleet.t.Helper()
	node, err := m.client.CoreV1().Nodes().Create(context.Background(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: m.name}}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		m.fleet.t.Error(err)
		return
	}
	m.uid = string(node.UID)
}

func (m *member) who(n int) string { return fmt.Sprintf("%s pod %d", m.name, n) }

func (m *member) owner(n int) ipam.Owner {
	return ipam.Owner{Container: fmt.Sprintf("%s-%d", m.name, n), IfName: "net1", Pod: fmt.Sprintf("blue/%s-%d", m.name, n), UID: fmt.Sprintf("%s-%d", m.name, n)}
}

// run does what nodes do until ctx ends: pods come and go, the daemon is killed,
// the network fails, the node dies and returns.
func (m *member) run(ctx context.Context) {
	for ctx.Err() == nil {
		switch n := rand.IntN(1000); {
		case n < 540:
			m.addPod(ctx)
		case n < 960:
			m.delPod()
		case n < 985:
			m.kill()
			m.start(m.fleet.t)
			m.recover()
		case n < 995:
			m.net.cut.Store(true)
			for range 8 {
				m.addPod(ctx)
				m.delPod()
			}
			m.net.cut.Store(false)
		default:
			m.die(ctx)
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(20+rand.IntN(80)) * time.Millisecond): // the pace of pods, not a wait
		}
	}
}

func (m *member) addPod(ctx context.Context) {
	if len(m.pods) > 12 {
		return
	}
	n := m.next
	m.next++
	c := m.fleet.configs[rand.IntN(len(m.fleet.configs))]
	m.begun[n] = c
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	if rand.IntN(40) == 0 { // killed in the middle
		kill, done := m.stop, make(chan struct{})
		time.AfterFunc(time.Duration(rand.IntN(30))*time.Millisecond, func() { defer close(done); kill(); _ = m.book.Close() })
		_, _ = m.add(ctx, c, m.owner(n))
		<-done
		m.kill()
		m.start(m.fleet.t)
		m.recover()
		return
	}
	addrs, err := m.add(ctx, c, m.owner(n))
	if err != nil {
		m.release(n)
		return
	}
	for _, a := range addrs {
		m.fleet.audit.take(a, m.who(n))
	}
	m.pods[n] = addrs
}

func (m *member) delPod() {
	for n := range m.pods {
		m.release(n)
		return
	}
}

func (m *member) release(n int) {
	for _, a := range m.pods[n] {
		m.fleet.audit.drop(a, m.who(n))
	}
	delete(m.pods, n)
	if err := m.del(m.owner(n)); err != nil {
		m.fleet.t.Errorf("release %s: %v", m.who(n), err)
	}
	delete(m.begun, n)
}

// recover undoes what was begun and never finished.
func (m *member) recover() {
	for n := range m.begun {
		if m.pods[n] == nil {
			m.release(n)
		}
	}
}

// die is a machine that burns: its pods are gone, a person deletes the node, and
// later it returns with its old journal.
func (m *member) die(ctx context.Context) {
	m.kill()
	for n, addrs := range m.pods {
		for _, a := range addrs {
			m.fleet.audit.drop(a, m.who(n))
		}
		delete(m.pods, n)
	}
	if err := m.client.CoreV1().Nodes().Delete(context.Background(), m.name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
		m.fleet.t.Error(err)
	}
	select {
	case <-ctx.Done():
	case <-time.After(time.Duration(rand.IntN(4000)) * time.Millisecond): // how long it is gone
	}
	m.join()
	m.start(m.fleet.t)
	err := m.book.Update("boot", func(s ipam.Store) error {
		l := ipam.NewLedger(s)
		l.Distrust()
		return l.Err()
	})
	if err != nil {
		m.fleet.t.Error(err)
	}
	m.recover()
}

// storm runs every node until enough says so, or most is over.
func (f *fleet) storm(most time.Duration, rate int64, weak bool, enough func(*audit) bool) {
	ctx, cancel := context.WithTimeout(f.t.Context(), most)
	defer cancel()
	go func() {
		defer cancel()
		for ctx.Err() == nil && !f.audit.ask(enough) {
			time.Sleep(50 * time.Millisecond)
		}
	}()
	blocks, err := kube.NewBlocks(server.Config(f.t))
	if err != nil {
		f.t.Fatal(err)
	}
	client := f.members[0].client
	r := reclaim.New(blocks, client, reclaim.Options{Quarantine: time.Second, Every: 500 * time.Millisecond, Log: quiet()})
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		_ = r.Run(ctx)
	}()
	for _, m := range f.members {
		m.net.rate.Store(rate)
		m.net.weak.Store(weak)
		wg.Add(1)
		go func() {
			defer wg.Done()
			m.run(ctx)
		}()
	}
	wg.Wait()
}

// calm ends the faults and every pod.
func (f *fleet) calm() {
	for _, m := range f.members {
		m.net.rate.Store(0)
		m.net.weak.Store(false)
		m.net.cut.Store(false)
		eventually(f.t, 30*time.Second, "late calls have arrived", func() bool { return m.net.late.Load() == 0 })
	}
	for _, m := range f.members {
		for n := range m.begun {
			m.release(n)
		}
	}
}

// wantAllFree polls until no slot of the spaces is anybody's, and says whose the
// last ones are.
func (f *fleet) wantAllFree(within time.Duration, spaces ...string) {
	f.t.Helper()
	deadline := time.Now().Add(within)
	for {
		left := ""
		err := newClient(f.t).List(f.t.Context(), func(b *v1alpha1.AddressBlock) error {
			space, cell, ok := b.Parse()
			if !ok || !slices.Contains(spaces, space) {
				return nil
			}
			for _, i := range b.Taken(time.Now()).Slots() {
				s := b.At(i)
				left += fmt.Sprintf("%s: %+v\n", cell.Addr(i), *s)
				for _, m := range f.members {
					if m.name == s.Node {
						_ = m.book.View(func(store ipam.Store) error {
							l := ipam.NewLedger(store)
							o, held := l.Holder(space, cell.Addr(i))
							left += fmt.Sprintf("   node has %+v, held %v %v\n", l.Holding(space, cell), held, o)
							return nil
						})
					}
				}
			}
			return nil
		})
		if err != nil {
			f.t.Fatal(err)
		}
		if left == "" {
			return
		}
		if time.Now().After(deadline) {
			f.t.Fatalf("not free after %s:\n%s", within, left)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

func twoRanges(t *testing.T) (tight, wide ipam.Config) {
	return shared(t, newSpace(), `"range":"10.0.0.0/25","gateway":"10.0.0.1","exclude":["10.0.0.64/29"]`),
		shared(t, newSpace(), `"ipRanges":[{"range":"10.1.0.0/20"},{"range":"fd00::/64"}]`)
}

// TestInvariant5UniqueUnderFaults: 50 nodes, pods that come and go, a server that
// answers 409, 429 and 500, stalls, and commits without saying so; daemons killed,
// nodes cut off, nodes that die and return. No address has two pods at any time,
// and when all pods are gone every address is free again.
func TestInvariant5UniqueUnderFaults(t *testing.T) {
	tight, wide := twoRanges(t)
	f := newFleet(t, 50, tight, wide)
	const enough = 1500
	f.storm(3*time.Minute, 15, false, func(a *audit) bool { return a.given >= enough })
	f.calm()
	for _, d := range f.audit.duplicates {
		t.Errorf("two owners: %s", d)
	}
	if f.audit.given < enough {
		t.Errorf("only %d addresses were given: the proof proves nothing", f.audit.given)
	}
	t.Logf("%d addresses given", f.audit.given)
	f.wantAllFree(90*time.Second, tight.Cluster.Space, wide.Cluster.Space)
	// What the tight range can hand out is all there again.
	want := int(tight.Cluster.Sets[0].Capacity())
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	seen := map[netip.Addr]bool{}
	for n := range want {
		m := f.members[n%len(f.members)]
		addrs, err := m.add(ctx, tight, ipam.Owner{Container: fmt.Sprintf("last-%d", n), IfName: "net1"})
		if err != nil {
			t.Fatalf("address %d of %d: %v", n+1, want, err)
		}
		seen[addrs[0]] = true
	}
	if len(seen) != want {
		t.Errorf("%d different addresses, want %d", len(seen), want)
	}
	if _, err := f.members[0].add(ctx, tight, ipam.Owner{Container: "one too many", IfName: "net1"}); !errors.Is(err, ipam.ErrExhausted) {
		t.Errorf("one too many: %v", err)
	}
	for _, m := range f.members {
		if n := m.net.calls("LIST"); n != 0 {
			t.Errorf("%s made %d LISTs", m.name, n)
		}
	}
}

// TestInvariant5ProofNoticesAWeakenedCompareAndSwap runs the same proof with
// updates that no longer depend on the version that they were made from.
func TestInvariant5ProofNoticesAWeakenedCompareAndSwap(t *testing.T) {
	tight, _ := twoRanges(t)
	f := newFleet(t, 20, tight)
	f.storm(3*time.Minute, 5, true, func(a *audit) bool { return len(a.duplicates) > 0 })
	if len(f.audit.duplicates) == 0 {
		t.Error("no duplicate was seen: the proof would not notice a broken compare-and-swap")
	}
	f.calm()
}
