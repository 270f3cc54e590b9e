package provision_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/tendril-cni/tendril/vf"
	"github.com/tendril-cni/tendril/vf/provision"
	"github.com/tendril-cni/tendril/vf/vftest"
)

// patience bounds every wait; nothing is asserted about time.
const patience = 20 * time.Second

var (
	pf0 = vf.MustAddr("0000:01:00.0")
	vf1 = vf.MustAddr("0000:01:10.2") // VF 1 of pf0
)

func nic(n int) vftest.NIC {
	c := vftest.Igb()
	c.VFs, c.TotalVFs = n, 7
	return c
}

func policy(numVFs int, driver string) vf.Policy {
	return vf.Policy{
		Name: "fast", NICs: vf.NICs{PFNames: []vf.Functions{{PF: "sriov0"}}}, NumVFs: numVFs,
		Groups: []vf.Group{{Driver: driver, Resource: "x/fast"}},
	}
}

// stage is a provisioner on a stand-in machine.
type stage struct {
	*testing.T
	machine *vftest.Machine
	p       *provision.Provisioner
	store   *memory

	// mu guards the rest.
	mu   sync.Mutex
	used map[vf.Addr]string
	// blind: nobody can tell what is in use.
	blind bool
}

// memory is a Store that outlives provisioners.
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

func (m *memory) Put(key string, value []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return m.fail
	}
	m.data[key] = value
	return nil
}

func (m *memory) Delete(key string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.data, key)
	return nil
}

func newStage(t *testing.T, m *vftest.Machine) *stage {
	t.Helper()
	s := &stage{T: t, machine: m, store: &memory{data: map[string][]byte{}}, used: map[vf.Addr]string{}}
	s.boot("boot 1")
	return s
}

// boot starts a provisioner, which ends with the test or with stop.
func (s *stage) boot(id string) (stop func()) {
	s.Helper()
	p, err := provision.New(provision.Options{
		Inventory: s.machine, Kernel: s.machine, Store: s.store, InUse: s.inUse, BootID: id, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		s.Fatal(err)
	}
	s.p = p
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := p.Run(ctx); err != nil {
			s.Error(err)
		}
	}()
	stop = func() { cancel(); <-done }
	s.Cleanup(stop)
	return stop
}

func (s *stage) inUse(context.Context) (func(vf.Addr) string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.blind {
		return nil, errors.New("the kubelet does not answer")
	}
	used := maps.Clone(s.used)
	return func(a vf.Addr) string { return used[a] }, nil
}

func (s *stage) use(a vf.Addr, by string) {
	s.useSilently(a, by)
	s.p.Poke()
}

// useSilently is a change that nobody tells the provisioner of.
func (s *stage) useSilently(a vf.Addr, by string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used[a] = by
}

// until waits for a state.
func (s *stage) until(what string, ok func(vf.State) bool) vf.State {
	s.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		st := s.p.State()
		if st.Snapshot.Generation > 0 && ok(st) {
			return st
		}
		if time.Now().After(end) {
			s.Fatalf("no state with %s; last verdict %+v, machine\n%s", what, st.Verdict(), s.machine)
		}
	}
}

func is(r vf.Reason) func(vf.State) bool {
	return func(s vf.State) bool { return s.Verdict().Reason == r }
}

func TestProvisionsAndOffersASubset(t *testing.T) {
	s := newStage(t, vftest.NewMachine(nic(0)))
	s.p.SetPolicies([]vf.Policy{policy(2, vf.Kernel)})
	s.until("all applied", is(vf.Applied))
	sel := s.p.Selections()
	if len(sel) != 1 || sel[0].Resource != "x/fast" || len(sel[0].VFs) != 2 {
		t.Errorf("selections %+v", sel)
	}
	s.machine.Taken()
	s.p.SetPolicies([]vf.Policy{policy(4, vf.Kernel)})
	s.until("4 VFs offered", func(st vf.State) bool { return is(vf.Applied)(st) && len(st.Assignments) == 4 })
	for _, step := range s.machine.Taken() {
		if strings.Contains(step, "create") || strings.Contains(step, "remove") {
			t.Errorf("a changed count did %s", step)
		}
	}
}

// A pod gets the whole PF between the plan and a step that changes it.
func TestInvariant6WholePFIsTakenBetweenPlanAndStep(t *testing.T) {
	m := vftest.NewMachine(nic(0))
	s := newStage(t, m)
	m.Fail = func(step vf.Step) error {
		if step.Op == vf.Autoprobe {
			s.useSilently(pf0, "pod default/router")
		}
		return nil
	}
	q := policy(2, vf.VFIO) // which begins with autoprobe
	s.p.SetPolicies([]vf.Policy{q})
	s.until("waiting", is(vf.InUse))
	if p, _ := m.Snapshot().PF(pf0); p.NumVFs != 0 {
		t.Errorf("VFs were made on a PF that a pod has: %+v", p)
	}
	m.Fail = nil
	s.useSilently(pf0, "")
	s.until("applied", func(st vf.State) bool { return is(vf.Applied)(st) && len(st.Snapshot.VFs) == 7 })
	if p, _ := m.Snapshot().PF(pf0); !p.Autoprobe {
		t.Error("autoprobe is not what it was before")
	}
}

// A policy is changed while nobody can tell which VFs are in use: until its VFs were
// looked at, they are what the former policy made of them, and are offered as that.
func TestChangedPolicyOffersNothingBeforeItWasLookedAt(t *testing.T) {
	s := newStage(t, vftest.NewMachine(nic(7)))
	s.p.SetPolicies([]vf.Policy{policy(4, vf.Kernel)})
	s.until("applied", is(vf.Applied))
	s.mu.Lock()
	s.blind = true
	s.mu.Unlock()
	dpdk := policy(4, vf.VFIO)
	dpdk.Groups[0].Resource = "x/dpdk"
	s.p.SetPolicies([]vf.Policy{dpdk})
	for _, pool := range s.p.Selections() {
		for _, a := range pool.VFs {
			if v, _ := s.machine.Snapshot().VF(a); pool.Resource == "x/dpdk" && v.Driver != vf.VFIO && s.p.Unfit(a) == "" {
				t.Errorf("VF %s with driver %s is offered as %s", a, v.Driver, pool.Resource)
			}
		}
	}
	s.mu.Lock()
	s.blind = false
	s.mu.Unlock()
	s.until("applied", func(st vf.State) bool {
		pools := s.p.Selections()
		return is(vf.Applied)(st) && len(pools) == 1 && pools[0].Resource == "x/dpdk" && len(pools[0].VFs) == 4
	})
}

// The policy goes while its steps are half done: what was changed for a while is put
// back, or VFs that others make would have no driver.
func TestAutoprobeIsPutBackWithoutThePolicy(t *testing.T) {
	other := policy(0, vf.Kernel)
	other.Name, other.NICs.PFNames[0].PF = "other", "elsewhere"
	for name, left := range map[string][]vf.Policy{"none left": nil, "another left": {other}} {
		t.Run(name, func(t *testing.T) {
			m := vftest.NewMachine(nic(0))
			s := newStage(t, m)
			m.Fail = func(step vf.Step) error {
				if step.Op == vf.Create {
					return unix.ENOMEM
				}
				return nil
			}
			s.p.SetPolicies([]vf.Policy{policy(2, vf.VFIO)})
			s.until("failed", is(vf.Failed))
			if p, _ := m.Snapshot().PF(pf0); p.Autoprobe {
				t.Fatal("autoprobe was not changed: this test shows nothing")
			}
			s.p.SetPolicies(left)
			s.until("autoprobe as it was", func(st vf.State) bool {
				p, _ := st.Snapshot.PF(pf0)
				notes, _ := s.store.All()
				return p.Autoprobe && len(notes) == 1 && len(st.Failures) == 0 // that VFs are ours stays
			})
		})
	}
}

func TestInvariant6ResizeWaitsForTheTenant(t *testing.T) {
	s := newStage(t, vftest.NewMachine(nic(0)))
	few := policy(2, vf.Kernel)
	few.CreateVFs = 2
	s.p.SetPolicies([]vf.Policy{few})
	s.until("2 VFs", is(vf.Applied))
	s.use(vf1, "pod default/tenant")
	s.p.SetPolicies([]vf.Policy{policy(7, vf.Kernel)})
	st := s.until("waiting", is(vf.InUse))
	if m := st.Verdict().Message; !strings.Contains(m, "pod default/tenant") || !strings.Contains(m, vf1.String()) {
		t.Errorf("message %q names not pod and VF", m)
	}
	if !st.Settled() {
		t.Error("a node that waits for a pod is not settled")
	}
	s.useSilently(vf1, "")
	s.until("7 VFs", func(st vf.State) bool { return is(vf.Applied)(st) && len(st.Snapshot.VFs) == 7 })
}

// A pod takes the VF between the plan and the step: the step must see it, or the
// pod must see the step.
func TestInvariant6TenantComesBetweenPlanAndStep(t *testing.T) {
	m := vftest.NewMachine(nic(7))
	s := newStage(t, m)
	var mu sync.Mutex
	var busyThen string // what the VF was busy with when somebody first saw that
	p, err := provision.New(provision.Options{
		Inventory: m, Kernel: m, Store: s.store, Log: slog.New(slog.DiscardHandler),
		InUse: func(context.Context) (func(vf.Addr) string, error) {
			mu.Lock()
			defer mu.Unlock()
			if busyThen == "" {
				busyThen = s.p.Busy(vf1)
			}
			late := busyThen != ""
			return func(a vf.Addr) string {
				if late && a == vf1 {
					return "pod default/late"
				}
				return ""
			}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.p = p
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	q := policy(2, vf.VFIO)
	q.NICs.PFNames[0].Ranges = vf.Ranges{{First: 1, Last: 1}}
	p.SetPolicies([]vf.Policy{q})
	s.until("waiting", is(vf.InUse))
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if v, _ := m.Snapshot().VF(vf1); v.Driver != "igbvf" {
		t.Errorf("the VF was taken from under the pod: %+v", v)
	}
	if busyThen == "" {
		t.Error("the VF was not busy while the step looked for users")
	}
	if b := p.Busy(vf1); b != "" {
		t.Errorf("still busy: %s", b)
	}
}

func TestExternallyMadeVFsAreLeftAlone(t *testing.T) {
	s := newStage(t, vftest.NewMachine(nic(3)))
	s.p.SetPolicies([]vf.Policy{policy(7, vf.Kernel)})
	st := s.until("refused", is(vf.Refused))
	if len(s.machine.Taken()) > 0 || !st.Settled() {
		t.Errorf("settled %v, machine\n%s", st.Settled(), s.machine)
	}
	if sel := s.p.Selections(); len(sel) != 1 || len(sel[0].VFs) != 3 {
		t.Errorf("the VFs that there are do not serve: %+v", sel)
	}
}

// What Tendril made stays its own over a restart, not over a reboot, and not when
// somebody writes another number.
func TestWhoseVFs(t *testing.T) {
	s := newStage(t, vftest.NewMachine(nic(0)))
	few := policy(2, vf.Kernel)
	few.CreateVFs = 2
	s.p.SetPolicies([]vf.Policy{few})
	s.until("2 VFs", is(vf.Applied))
	for _, row := range []struct {
		boot string
		made bool
	}{{"boot 1", true}, {"boot 2", false}} {
		stop := s.boot(row.boot)
		s.p.SetPolicies([]vf.Policy{few})
		if st := s.until("look", is(vf.Applied)); st.Made[pf0] != row.made {
			t.Errorf("after a start in %s: made %v", row.boot, st.Made[pf0])
		}
		stop()
	}
	s.boot("boot 1")
	s.p.SetPolicies([]vf.Policy{few})
	s.machine.Change(func(snap *vf.Snapshot) { // echo 0, echo 1 by hand
		snap.PFs[0].NumVFs = 1
		snap.VFs = slices.DeleteFunc(snap.VFs, func(v vf.VF) bool { return v.Index == 1 })
	})
	s.until("refused", is(vf.Refused))
}

func TestRecordedBeforeMade(t *testing.T) {
	m := vftest.NewMachine(nic(0))
	s := newStage(t, m)
	s.store.fail = errors.New("disk full")
	s.p.SetPolicies([]vf.Policy{policy(7, vf.Kernel)})
	s.until("failure", is(vf.Failed))
	if n := len(m.Snapshot().VFs); n != 0 {
		t.Errorf("%d VFs were made without a record", n)
	}
	s.store.mu.Lock()
	s.store.fail = nil
	s.store.mu.Unlock()
	s.until("VFs", is(vf.Applied))
}

func TestOneBadNICHoldsUpNoOther(t *testing.T) {
	second := vftest.Second()
	second.VFs = 0
	m := vftest.NewMachine(nic(0), second)
	var bad sync.Map
	bad.Store(pf0, true)
	m.Fail = func(s vf.Step) error {
		if _, is := bad.Load(s.PF); is && s.Op == vf.Create {
			return errors.New("no room on the bus")
		}
		return nil
	}
	s := newStage(t, m)
	q := policy(2, vf.Kernel)
	q.NICs = vf.NICs{}
	s.p.SetPolicies([]vf.Policy{q})
	st := s.until("the other NIC's VFs and a failure", func(st vf.State) bool {
		return is(vf.Failed)(st) && len(st.Snapshot.Of(vf.MustAddr("0000:02:00.0"))) == 7
	})
	if st.Settled() || !strings.Contains(st.Verdict().Message, "no room on the bus") {
		t.Errorf("settled %v, verdict %+v", st.Settled(), st.Verdict())
	}
	bad.Delete(pf0)
	s.until("all applied after a retry", is(vf.Applied))
}

// The driver is swapped under us: the VF is unfit at once, and gets its driver
// back unless somebody uses it.
func TestDriverSwappedByHand(t *testing.T) {
	s := newStage(t, vftest.NewMachine(nic(7)))
	s.p.SetPolicies([]vf.Policy{policy(7, vf.Kernel)})
	s.until("applied", is(vf.Applied))
	swap := func() {
		s.machine.Change(func(snap *vf.Snapshot) {
			for i := range snap.VFs {
				if snap.VFs[i].Addr == vf1 {
					snap.VFs[i].Driver, snap.VFs[i].Netdev, snap.VFs[i].MTU = vf.VFIO, "", 0
				}
			}
		})
	}
	s.use(vf1, "pod default/tenant")
	swap()
	s.until("unfit", func(vf.State) bool { return strings.Contains(s.p.Unfit(vf1), `its driver is "vfio-pci"`) })
	s.use(vf1, "")
	s.until("its driver back", func(st vf.State) bool { return is(vf.Applied)(st) && s.p.Unfit(vf1) == "" })
}

// A VF in quarantine is nobody's to bind or destroy, and is not given out.
func TestInvariant4QuarantineIsRespected(t *testing.T) {
	m := vftest.NewMachine(nic(7))
	var mu sync.Mutex
	cause := "in quarantine: rates"
	p, err := provision.New(provision.Options{
		Inventory: m, Kernel: m, Store: &memory{data: map[string][]byte{}}, Log: slog.New(slog.DiscardHandler),
		InUse: func(context.Context) (func(vf.Addr) string, error) { return func(vf.Addr) string { return "" }, nil },
		Quarantined: func(a vf.Addr) string {
			mu.Lock()
			defer mu.Unlock()
			if a == vf1 {
				return cause
			}
			return ""
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	s := &stage{T: t, machine: m, p: p}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	p.SetPolicies([]vf.Policy{policy(7, vf.VFIO)})
	s.until("the others on vfio-pci", func(st vf.State) bool { return is(vf.InUse)(st) && len(st.Unfit) == 1 })
	if v, _ := m.Snapshot().VF(vf1); v.Driver != "igbvf" || p.Unfit(vf1) != "in quarantine: rates" {
		t.Errorf("%+v is unfit because %q", v, p.Unfit(vf1))
	}
	mu.Lock()
	cause = ""
	mu.Unlock()
	p.Poke()
	s.until("all on vfio-pci", func(st vf.State) bool { return is(vf.Applied)(st) && p.Unfit(vf1) == "" })
	// It counts from the moment on in which it is known, not from the next look.
	mu.Lock()
	cause = "in quarantine: again"
	mu.Unlock()
	if got := p.Unfit(vf1); got != "in quarantine: again" {
		t.Errorf("a VF that is in quarantine now is unfit because %q", got)
	}
}

// TestPFLink: without a policy, and where it was asked for, VFs are unfit while
// their PF has no link.
func TestPFLink(t *testing.T) {
	m := vftest.NewMachine(nic(7))
	p, err := provision.New(provision.Options{
		Inventory: m, Kernel: m, Store: &memory{data: map[string][]byte{}}, Log: slog.New(slog.DiscardHandler), PFLink: true,
		InUse: func(context.Context) (func(vf.Addr) string, error) { return func(vf.Addr) string { return "" }, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	s := &stage{T: t, machine: m, p: p}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	link := func(up bool) { m.Change(func(s *vf.Snapshot) { s.PFs[0].LinkUp = up }) }
	p.SetPolicies(nil)
	link(false)
	s.until("all unfit", func(st vf.State) bool { return len(st.Unfit) == 7 })
	if got := p.Unfit(vf1); got != "PF sriov0 has no link" {
		t.Errorf("unfit because %q", got)
	}
	link(true)
	s.until("all fit", func(st vf.State) bool { return len(st.Unfit) == 0 })
}

func TestPlanChangesNothing(t *testing.T) {
	m := vftest.NewMachine(nic(0))
	s := newStage(t, m)
	before := m.String()
	steps, err := s.p.Plan(t.Context(), []vf.Policy{policy(7, vf.VFIO)})
	if err != nil || len(steps) != 10 {
		t.Errorf("%d steps, %v", len(steps), err)
	}
	if d := cmp.Diff(before, m.String()); d != "" {
		t.Error(d)
	}
}

func TestNothingBeforeThePoliciesAreKnown(t *testing.T) {
	m := vftest.NewMachine(nic(7))
	s := newStage(t, m)
	s.p.Poke()
	m.Change(func(snap *vf.Snapshot) { snap.PFs[0].MTU = 1600 })
	s.p.SetPolicies(nil)
	st := s.until("a look", func(vf.State) bool { return true })
	if v := st.Verdict(); !v.Ready() || !st.Settled() || len(m.Taken()) > 0 {
		t.Errorf("%+v", v)
	}
}

// TestInvariant3KilledAnywhere ends the provisioner after each step, starts
// another one, and wants the same end.
func TestInvariant3KilledAnywhere(t *testing.T) {
	q := policy(7, vf.Kernel)
	q.MTU = 9000
	q.Groups = []vf.Group{{VFs: vf.Ranges{{First: 0, Last: 2}}, Driver: vf.VFIO, Resource: "x/dpdk"}, {Driver: vf.Kernel, Resource: "x/fast"}}
	for kill := range 18 {
		t.Run(fmt.Sprint(kill), func(t *testing.T) {
			t.Parallel()
			m := vftest.NewMachine(nic(0))
			var mu sync.Mutex
			left, dead := kill, make(chan struct{})
			m.Fail = func(vf.Step) error {
				mu.Lock()
				defer mu.Unlock()
				if left--; left == -1 {
					close(dead)
				}
				if left < 0 {
					return errors.New("killed")
				}
				return nil
			}
			s := &stage{T: t, machine: m, store: &memory{data: map[string][]byte{}}, used: map[vf.Addr]string{}}
			stop := s.boot("boot 1")
			s.p.SetPolicies([]vf.Policy{q})
			s.until("the kill, or the end", func(st vf.State) bool {
				select {
				case <-dead:
					return true
				default:
					return is(vf.Applied)(st) && len(st.Assignments) == 7
				}
			})
			stop()
			mu.Lock()
			left = 1000
			mu.Unlock()
			s.boot("boot 1")
			s.p.SetPolicies([]vf.Policy{q})
			s.until("all applied", is(vf.Applied))
			want := "sriov0 7/7 VFs mtu 9000 up true autoprobe true\n"
			if got := m.String(); !strings.HasPrefix(got, want) || strings.Count(got, "vfio-pci") != 3 || strings.Count(got, "igbvf \"sriov0v") != 4 {
				t.Errorf("killed at step %d:\n%s", kill, got)
			}
		})
	}
}
