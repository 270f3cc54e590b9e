package vf

import (
	"fmt"
	"slices"

	"github.com/tendril-cni/tendril/cni/refusal"
)

// Observed is all that a plan is made of besides the policies.
type Observed struct {
	Snapshot *Snapshot
	// Claims say what the host itself uses a PF or VF for ("carries the address
	// 10.0.0.1/24"). Functions that are free are not in it.
	Claims map[Addr]string
	// Made are the PFs whose present VFs Tendril made. Those of other PFs were
	// made by somebody else: they are used and their number is left alone.
	Made map[Addr]bool
	// Autoprobe has, for PFs on which a chain of steps was begun and not finished,
	// what autoprobe was before; it is what it has to be in the end.
	Autoprobe map[Addr]bool
}

// Plan returns what has to be done, in order, so that the NICs are as the
// policies want. It is pure: same arguments, same steps. No step means that they
// are. inUse names who uses the VF, or the whole PF, at an address ("pod
// default/a"), "" for nobody; nil means that nothing is used.
//
// A step that cannot be taken now is in the list too, with its cause (Blocked),
// and what depends on it is left out.
func Plan(o Observed, policies []Policy, inUse func(Addr) string) []Step {
	var steps []Step
	policies = sorted(policies)
	for _, p := range o.Snapshot.PFs {
		w := planner{observed: o, pf: p, inUse: inUse, vfs: o.Snapshot.Of(p.Addr)}
		for _, q := range policies {
			if !q.Selects(p) {
				continue
			}
			if err := o.refusal(p, q); err != nil {
				w.keep(q, err)
				continue
			}
			w.policies = append(w.policies, q)
		}
		if len(w.policies) > 0 {
			before := len(w.steps)
			w.plan()
			w.spare(before)
		} else if was, begun := o.Autoprobe[p.Addr]; begun && was != p.Autoprobe {
			// Whose policy it was is nobody's any more: the chain ends here.
			w.step(Autoprobe, -1, number(was), "")
		}
		steps = append(steps, w.steps...)
	}
	return steps
}

// Refused reports whether policy q may not have the PF p.
func (o Observed) Refused(p PF, q Policy) bool { return o.refusal(p, q) != nil }

// refusal says why policy q may not have the PF p.
func (o Observed) refusal(p PF, q Policy) error {
	object := fmt.Sprintf("VFPolicy %q for PF %s", q.Name, p.Label())
	switch claim := o.Claims[p.Addr]; {
	case claim != "" && !q.AllowPrimary:
		return refusal.New(object, "spec.nicSelector", p.Label(), "a PF that the host does not use, or allowPrimary: true; here "+claim)
	case q.NumVFs > p.TotalVFs:
		return refusal.New(object, "spec.numVFs", q.NumVFs, fmt.Sprintf("0..%d (sriov_totalvfs)", p.TotalVFs))
	}
	return nil
}

// planner makes the steps of one PF.
type planner struct {
	observed Observed
	pf       PF
	vfs      []VF
	// policies are those that may have the PF, the winner first.
	policies []Policy
	// assigned is by VF as they will be, those included that are made first.
	assigned []Assignment
	inUse    func(Addr) string
	steps    []Step
}

func (w *planner) step(op Op, index, value int, policy string) *Step {
	w.steps = append(w.steps, Step{PF: w.pf.Addr, Name: w.pf.Netdev, Op: op, Index: index, Value: value, Policy: policy})
	return &w.steps[len(w.steps)-1]
}

func (w *planner) keep(q Policy, err error) { w.step(Keep, -1, 0, q.Name).Blocked = err }

func (w *planner) plan() {
	if w.pf.Netdev != "" && !w.pf.AdminUp {
		// VFs have link only while their PF is up, and some drivers (bnxt_en) drop
		// the request for VFs before.
		w.step(Up, -1, 0, w.policies[0].Name)
	}
	raised := w.raiseMTU()
	made, autoprobe := w.number()
	binds := w.drivers(made, autoprobe)
	if raised {
		w.mtus(made, binds)
	}
}

// spare takes the steps from first on back, if they change the PF itself and a pod
// has it as a whole.
func (w *planner) spare(first int) {
	i := slices.IndexFunc(w.steps[first:], func(s Step) bool { return s.Index < 0 && s.Blocked == nil })
	if i < 0 || w.inUse == nil {
		return
	}
	by := w.inUse(w.pf.Addr)
	if by == "" {
		return
	}
	policy := w.steps[first+i].Policy
	w.steps = w.steps[:first]
	w.step(Keep, -1, 0, policy).Blocked = refusal.New("PF "+w.pf.Label(), "user", by,
		"nobody: the PF itself is changed when it is free").Because(ErrInUse)
}

// raiseMTU: the PF's MTU must not be below a VF's. It is never lowered. It returns
// whether the PF's is high enough by the time of the next step.
func (w *planner) raiseMTU() bool {
	mtu, by := 0, ""
	for _, q := range w.policies {
		if q.MTU > mtu {
			mtu, by = q.MTU, q.Name
		}
	}
	if mtu <= w.pf.MTU || w.pf.Netdev == "" {
		return true
	}
	// Drivers take the PF's link down for this, and the VFs' with it.
	s := w.step(RaiseMTU, -1, mtu, by)
	s.Blocked = w.used("mtu", mtu)
	return s.Blocked == nil
}

// wanted is the number of VFs that there must be at least, and whose wish it is.
func (w *planner) wanted() (n int, q Policy) {
	for _, p := range w.policies {
		if p.NumVFs > n {
			n, q = p.NumVFs, p
		}
	}
	return n, q
}

// number brings VFs into being, if it must. It returns how many new ones there
// will be, 0 if those that exist stay, and the value of autoprobe by then.
func (w *planner) number() (made int, autoprobe bool) {
	want, q := w.wanted()
	w.assigned = assign(w.pf, w.policies, nil)
	if w.pf.NumVFs >= want {
		return 0, w.pf.Autoprobe
	}
	if w.pf.NumVFs > 0 {
		if err := w.resizable(want); err != nil {
			w.step(Create, -1, w.most(), q.Name).Blocked = err
			return 0, w.pf.Autoprobe
		}
	}
	made = w.most()
	then := w.pf
	then.NumVFs = made
	w.assigned = assign(then, w.policies, nil)
	// VFs that need no kernel driver are not worth the probe, and a VF that goes
	// to vfio-pci must not show itself to the host's network manager before.
	autoprobe = w.pf.Autoprobe
	kernel := 0
	for _, a := range w.assigned {
		if a.Driver == Kernel {
			kernel++
		}
	}
	if kernel < made && autoprobe {
		w.step(Autoprobe, -1, 0, q.Name)
		autoprobe = false
	}
	if w.pf.NumVFs > 0 {
		w.step(Remove, -1, w.pf.NumVFs, q.Name)
	}
	w.step(Create, -1, made, q.Name)
	return made, autoprobe
}

// most is how many VFs are made: what any policy wants, and room to grow.
func (w *planner) most() int {
	n, _ := w.wanted()
	for _, q := range w.policies {
		if q.NumVFs == 0 {
			continue // takes what there is
		}
		create := q.CreateVFs
		if create == 0 {
			create = w.pf.TotalVFs
		}
		n = max(n, create)
	}
	return min(n, w.pf.TotalVFs)
}

// resizable: the kernel makes more VFs only after it destroyed all.
func (w *planner) resizable(want int) error {
	if !w.observed.Made[w.pf.Addr] {
		return refusal.New("PF "+w.pf.Label(), "numVFs", want, fmt.Sprintf(
			"0..%d: these VFs were not made by Tendril and are left alone", w.pf.NumVFs))
	}
	return w.used("numVFs", want)
}

// used says which VF of the PF is in use, if one is.
func (w *planner) used(field string, value int) error {
	for _, v := range w.vfs {
		if by := w.user(v); by != "" {
			return refusal.New("PF "+w.pf.Label(), field, value, fmt.Sprintf(
				"%s while VF %d (%s) is used by %s; it is done when no VF of the PF is used", w.present(field), v.Index, v.Addr, by)).Because(ErrInUse)
		}
	}
	return nil
}

func (w *planner) present(field string) string {
	if field == "mtu" {
		return fmt.Sprintf("up to %d", w.pf.MTU)
	}
	return fmt.Sprintf("0..%d", w.pf.NumVFs)
}

// user names who uses v, pod or host.
func (w *planner) user(v VF) string {
	if w.inUse != nil {
		if by := w.inUse(v.Addr); by != "" {
			return by
		}
	}
	if claim := w.observed.Claims[v.Addr]; claim != "" {
		return "the host (" + claim + ")"
	}
	return ""
}

// drivers binds what has not the driver wanted, and returns those steps. made > 0
// says that all VFs are new, and autoprobe whether they have drivers.
func (w *planner) drivers(made int, autoprobe bool) []Step {
	binds := w.binds(made, autoprobe)
	final := w.final()
	needs := slices.ContainsFunc(binds, func(s Step) bool { return s.Driver == Kernel && s.Blocked == nil })
	if needs && !autoprobe {
		// The kernel probes a VF for its own driver only while this is on
		// (pci_device_can_probe, drivers/pci/pci-driver.c).
		w.step(Autoprobe, -1, 1, binds[0].Policy)
		autoprobe = true
	}
	w.steps = append(w.steps, binds...)
	if autoprobe != final {
		w.step(Autoprobe, -1, number(final), w.policies[0].Name)
	}
	return binds
}

// final is what autoprobe shall be in the end.
func (w *planner) final() bool {
	for _, q := range w.policies {
		if q.Autoprobe != nil {
			return *q.Autoprobe
		}
	}
	if before, begun := w.observed.Autoprobe[w.pf.Addr]; begun {
		return before
	}
	return w.pf.Autoprobe
}

func number(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (w *planner) binds(made int, autoprobe bool) []Step {
	existing := w.byIndex()
	var out []Step
	for _, a := range w.assigned {
		s := Step{PF: w.pf.Addr, Name: w.pf.Netdev, Op: Bind, Index: a.Index, Driver: a.Driver, Policy: a.Policy}
		v, exists := existing[a.Index]
		switch {
		case made > 0:
			if a.Index >= made || autoprobe && a.Driver == Kernel {
				continue
			}
		case !exists || a.driven(v.Driver):
			continue
		default:
			s.Blocked = w.bindable(a, v)
		}
		out = append(out, s)
	}
	return out
}

func (w *planner) byIndex() map[int]VF {
	m := make(map[int]VF, len(w.vfs))
	for _, v := range w.vfs {
		m[v.Index] = v
	}
	return m
}

// bindable says what keeps v from getting another driver.
func (w *planner) bindable(a Assignment, v VF) error {
	object := fmt.Sprintf("VF %d (%s) of PF %s", v.Index, v.Addr, w.pf.Label())
	if by := w.user(v); by != "" {
		return refusal.New(object, "driver", a.Driver, fmt.Sprintf("%q while it is used by %s", v.Driver, by)).Because(ErrInUse)
	}
	if a.Driver == VFIO && v.IOMMUGroup < 0 {
		return refusal.New(object, "driver", a.Driver, "kernel: the VF has no IOMMU group; switch the IOMMU on (intel_iommu=on or the firmware's setting)")
	}
	return nil
}

// mtus sets the MTU of the VFs on the host. A VF in a pod has the pod's; it comes
// back with the one it had, and is looked at again then. A VF whose network device
// comes only now has the default.
func (w *planner) mtus(made int, binds []Step) {
	existing := w.byIndex()
	for _, a := range w.assigned {
		v, exists := existing[a.Index]
		comes := made > 0 && a.Index < made || slices.ContainsFunc(binds, func(s Step) bool {
			return s.Index == a.Index && s.Driver == Kernel && s.Blocked == nil
		})
		switch {
		case a.MTU == 0 || a.Driver != Kernel:
		case comes:
			if a.MTU != defaultMTU {
				w.step(SetMTU, a.Index, a.MTU, a.Policy)
			}
		case made == 0 && exists && v.Netdev != "" && v.MTU != a.MTU && w.user(v) == "":
			w.step(SetMTU, a.Index, a.MTU, a.Policy)
		}
	}
}

// defaultMTU is what new Ethernet devices have (ether_setup, net/ethernet/eth.c).
const defaultMTU = 1500
