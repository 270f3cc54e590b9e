package validate

import (
	"errors"
	"fmt"
	"strings"

	"github.com/tendril-cni/tendril/cni/refusal"
)

// Level says what a finding does to its object.
type Level string

// The levels.
const (
	Deny Level = "deny"
	Warn Level = "warn"
)

// The codes. N is for definitions, P for pods, R for policies and address
// ranges, M for MultiNetworkPolicies.
const (
	NotAnObject      = "N001" // configuration is no JSON object, or has a key twice
	NoPlugin         = "N002" // no type and no plugins, or a part of the wrong shape
	UnknownPlugin    = "N003" // a type that no node has
	UnknownVersion   = "N004" // cniVersion that nobody speaks
	OutOfRange       = "N005" // VLAN, priority, rate or another number or word
	WrongMode        = "N006" // mode that the type does not have
	BadAddresses     = "N007" // ipam
	Overlap          = "N008" // range that another network or the cluster uses
	UnknownResource  = "N009" // resource that nothing provides
	NoDevice         = "N010" // sriov without a way to get a device
	UnknownMaster    = "N011" // parent link that no node has
	IdleCapability   = "N012" // capability that nothing in the chain can honour
	NameTwice        = "N013" // one network name for two different networks
	ChangedInUse     = "N014" // a change that running pods do not see
	NoEffect         = "N015" // field that nothing reads, or that does nothing here
	BadAnnotation    = "P001" // networks annotation that does not parse
	NoDefinition     = "P002" // definition absent, or out of bounds
	BadInterface     = "P003" // interface name
	BadRequest       = "P004" // MAC or IP address
	NoCapability     = "P005" // a request that the network does not serve
	BadPlace         = "P006" // host network, default routes
	ResourceMismatch = "P007" // resource asked for in another number than needed
	UserspaceNeeds   = "P008" // userspace device without memory for it
	BadArguments     = "P009" // cni-args, ipam-claim-reference
	VFPolicy         = "R001" // VF policy
	VFPolicyInUse    = "R002" // VF policy that takes devices from pods
	AddressRange     = "R003" // pools and address ranges
	BadPolicy        = "M001" // MultiNetworkPolicy
	IdlePolicy       = "M002" // MultiNetworkPolicy that cannot be enforced
)

// Finding is one judgement on one field of one object.
type Finding struct {
	Code    string
	Level   Level
	Refusal *refusal.Refusal
}

// String returns "<code>: <object>: field ...", in one line.
func (f Finding) String() string {
	return f.Code + ": " + strings.Join(strings.Fields(f.Refusal.Error()), " ")
}

// same reports whether two findings say the same of two states of one object.
func (f Finding) same(o Finding) bool {
	return f.Code == o.Code && f.Refusal.Field == o.Refusal.Field && f.Refusal.Value == o.Refusal.Value
}

// Denied returns the findings that deny.
func Denied(all []Finding) []Finding { return filter(all, Deny) }

// Warned returns the findings that only warn.
func Warned(all []Finding) []Finding { return filter(all, Warn) }

func filter(all []Finding, level Level) []Finding {
	var out []Finding
	for _, f := range all {
		if f.Level == level {
			out = append(out, f)
		}
	}
	return out
}

// Ratchet returns after with those findings softened that before has as well:
// who edits a label need not mend what was accepted long ago.
func Ratchet(before, after []Finding) []Finding {
	out := make([]Finding, len(after))
	for i, f := range after {
		for _, old := range before {
			if f.same(old) {
				f.Level = Warn
			}
		}
		out[i] = f
	}
	return out
}

// list collects findings on one object.
type list struct {
	object string
	all    []Finding
}

func (l *list) add(code string, level Level, field string, value any, allowed string) {
	l.all = append(l.all, Finding{code, level, refusal.New(l.object, field, value, allowed)})
}

// refuse adds the refusal inside err; prefix goes before its field.
func (l *list) refuse(code, prefix string, err error) {
	r := unwrap(err).In(l.object)
	r.Field = strings.TrimSuffix(prefix+r.Field, ".")
	l.all = append(l.all, Finding{code, Deny, r})
}

// unwrap returns a copy of the refusal inside err. The parsers return nothing
// else; any other error still has to be said.
func unwrap(err error) *refusal.Refusal {
	var r *refusal.Refusal
	if errors.As(err, &r) {
		c := *r
		return &c
	}
	return (&refusal.Refusal{Value: "as given", Allowed: "a value that can be read"}).Because(err)
}

func objectName(kind, namespace, name string) string {
	if namespace == "" {
		return fmt.Sprintf("%s %q", kind, name)
	}
	return fmt.Sprintf("%s %q", kind, namespace+"/"+name)
}
