package v1alpha1

import (
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tendril-cni/tendril/ipam"
)

// What the API server calls the kind.
const (
	Group    = "tendril.dev"
	Version  = "v1alpha1"
	Kind     = "AddressBlock"
	Resource = "addressblocks"
)

// OrderAnnotation on a Node orders that its addresses are given to others. Its
// value is the Node object's uid, so that the order does not outlive what it was
// meant for.
const OrderAnnotation = "tendril.dev/reclaim-addresses"

// PodClaim begins the claim of a pod whose address another allocator gave: it is
// the pod's as long as the pod is there.
const PodClaim = "pod:"

// AddressBlock says who has each of the 64 addresses of one cell of one address
// space. It is cluster-scoped. Every change is an update that carries the
// resourceVersion that it was made from.
type AddressBlock struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              AddressBlockSpec `json:"spec"`
}

// AddressBlockList is what LIST answers. Nodes never ask for it.
type AddressBlockList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []AddressBlock `json:"items"`
}

// AddressBlockSpec is the content of a block.
type AddressBlockSpec struct {
	// Space is the address space: whereabouts' network_name. Empty is the default
	// one.
	Space string `json:"space,omitempty"`
	// Cell is the IPv4 /26 or IPv6 /122.
	Cell string `json:"cell"`
	// Seq counts the changes of owner; every slot that changes gets the next value.
	Seq int64 `json:"seq"`
	// Slots are the addresses that somebody has, ascending; all others are free.
	Slots []Slot `json:"slots,omitempty"`
	// Wants are nodes that found no free slot: whoever has idle ones gives them
	// back.
	Wants []Want `json:"wants,omitempty"`
}

// Slot is one address that is not free. Exactly one of Node, Claim and Until is
// set.
type Slot struct {
	// Slot is 0..63, counted from the cell's first address.
	Slot int `json:"slot"`
	// Node and UID are the node's name and the uid of its Node object.
	Node string `json:"node,omitempty"`
	UID  string `json:"uid,omitempty"`
	// Claim is a sticky owner: "<namespace>/<name>" of an IPAMClaim, with its
	// Interface and UID, which early versions left out. Behind PodClaim it is a
	// pod's, and UID the pod's uid.
	Claim     string `json:"claim,omitempty"`
	Interface string `json:"interface,omitempty"`
	// Until is the end of a quarantine; after it the slot is as good as free, and
	// suspect.
	Until *metav1.Time `json:"until,omitempty"`
	// Seq is the block's Seq at which the owner became this one.
	Seq int64 `json:"seq"`
	// Suspect says that the address is to be probed before it is used.
	Suspect bool `json:"suspect,omitempty"`
	// Reason is why the slot is in quarantine, for people.
	Reason string `json:"reason,omitempty"`
	// Holder is the pod, "<namespace>/<name>", that has the address; written only
	// in answer to a Want for this very slot, or on import.
	Holder string `json:"holder,omitempty"`
}

// Want is a node's call for slots.
type Want struct {
	Node string `json:"node"`
	// Slot is the one that is wanted; nil for any.
	Slot *int `json:"slot,omitempty"`
	// Until is when the call lapses.
	Until metav1.Time `json:"until"`
}

// Name returns the name of the block of a cell in a space.
func Name(space string, c ipam.Cell) string {
	if space == "" {
		return c.Name()
	}
	return c.Name() + "." + space
}

// New returns the block of a cell in a space, with nobody in it.
func New(space string, c ipam.Cell) *AddressBlock {
	return &AddressBlock{
		TypeMeta:   metav1.TypeMeta{APIVersion: Group + "/" + Version, Kind: Kind},
		ObjectMeta: metav1.ObjectMeta{Name: Name(space, c)},
		Spec:       AddressBlockSpec{Space: space, Cell: c.String()},
	}
}

// Taken returns the slots that nobody can claim at a time: the owned ones, and
// those in quarantine.
func (b *AddressBlock) Taken(now time.Time) ipam.Mask {
	var m ipam.Mask
	for _, s := range b.Spec.Slots {
		if s.Until == nil || now.Before(s.Until.Time) {
			m |= 1 << s.Slot
		}
	}
	return m
}

// Of returns the slots of a node, and those of them that are suspect. uid empty
// means whatever uid the node had.
func (b *AddressBlock) Of(node, uid string) (mine, suspect ipam.Mask) {
	for _, s := range b.Spec.Slots {
		if s.Node != node || node == "" || uid != "" && s.UID != uid {
			continue
		}
		mine |= 1 << s.Slot
		if s.Suspect {
			suspect |= 1 << s.Slot
		}
	}
	return mine, suspect
}

// At returns the entry of a slot, or nil when it is free.
func (b *AddressBlock) At(slot int) *Slot {
	for i := range b.Spec.Slots {
		if b.Spec.Slots[i].Slot == slot {
			return &b.Spec.Slots[i]
		}
	}
	return nil
}

// longestText is what the definition allows for a Reason, in characters.
const longestText = 256

// clip cuts a reason to what there is room for: names alone can be longer.
func clip(text string) string {
	if len(text) <= longestText {
		return text
	}
	return text[:longestText-3] + "..."
}

// Set makes s the entry of its slot, with the next sequence number.
func (b *AddressBlock) Set(s Slot) {
	b.Spec.Seq++
	s.Seq = b.Spec.Seq
	s.Reason = clip(s.Reason)
	b.Free(1 << s.Slot)
	at := 0
	for at < len(b.Spec.Slots) && b.Spec.Slots[at].Slot < s.Slot {
		at++
	}
	b.Spec.Slots = append(b.Spec.Slots[:at], append([]Slot{s}, b.Spec.Slots[at:]...)...)
}

// Free removes the entries of slots.
func (b *AddressBlock) Free(m ipam.Mask) {
	var kept []Slot
	for _, s := range b.Spec.Slots {
		if !m.Has(s.Slot) {
			kept = append(kept, s)
		}
	}
	b.Spec.Slots = kept
}

// DropLapsedWants removes the calls that lapsed before now.
func (b *AddressBlock) DropLapsedWants(now time.Time) {
	b.keepWants(func(w Want) bool { return now.Before(w.Until.Time) })
}

// DropWants removes the calls of a node.
func (b *AddressBlock) DropWants(node string) {
	b.keepWants(func(w Want) bool { return w.Node != node })
}

func (b *AddressBlock) keepWants(keep func(Want) bool) {
	var kept []Want
	for _, w := range b.Spec.Wants {
		if keep(w) {
			kept = append(kept, w)
		}
	}
	b.Spec.Wants = kept
}

// Parse returns the space and the cell that the block's name and content agree
// on, and false when they do not.
func (b *AddressBlock) Parse() (space string, c ipam.Cell, ok bool) {
	c, err := ipam.ParseCell(b.Spec.Cell)
	return b.Spec.Space, c, err == nil && strings.EqualFold(b.Name, Name(b.Spec.Space, c))
}
