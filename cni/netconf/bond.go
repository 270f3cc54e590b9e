package netconf

import (
	"fmt"
	"slices"
	"strconv"
)

// Bond is the configuration of a bond in the pod, defaults applied.
type Bond struct {
	// Mode and XmitHashPolicy are the kernel's words (kernel doc
	// networking/bonding); XmitHashPolicy may be empty.
	Mode, XmitHashPolicy string
	// Miimon is in milliseconds.
	Miimon int
	// Links are the names of at least two slaves.
	Links []string
	// LinksInContainer says that they are in the pod already; otherwise they are
	// the host's and go into the pod.
	LinksInContainer bool
	MTU              int
	// Nil leaves the kernel's default.
	FailOverMAC, AllSlavesActive, TLBDynamicLB *int
}

// BondModes are the kernel's modes; the index is the mode's number.
var BondModes = [...]string{"balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb"}

// BondHashPolicies are the kernel's transmit hash policies; the index is the
// policy's number.
var BondHashPolicies = [...]string{"layer2", "layer3+4", "layer2+3", "encap2+3", "encap3+4", "vlan+srcmac"}

// ParseBond reads the configuration of a bond (k8snetworkplumbingwg bond-cni).
// Every error is a refusal.Refusal without an object.
func ParseBond(p Plugin) (Bond, error) {
	o := openObject("", p.Raw)
	b := Bond{
		Mode:             o.word("mode", "", BondModes[:]...),
		XmitHashPolicy:   o.word("xmitHashPolicy", "", BondHashPolicies[:]...),
		LinksInContainer: o.flag("linksInContainer"),
		MTU:              int(o.number("mtu", 0, maxMTU)),
		FailOverMAC:      toInt(o.integer("failOverMac", 0, 2)),
		AllSlavesActive:  toInt(o.integer("allSlavesActive", 0, 1)),
		TLBDynamicLB:     toInt(o.integer("tlbDynamicLb", 0, 1)),
		Links:            o.bondLinks(),
		Miimon:           o.miimon(),
	}
	if b.Mode == "" {
		o.refuse("mode", "", "balance-rr, active-backup, balance-xor, broadcast, 802.3ad, balance-tlb, balance-alb")
	}
	if b.TLBDynamicLB != nil && b.Mode != "balance-tlb" && b.Mode != "balance-alb" {
		o.refuse("tlbDynamicLb", *b.TLBDynamicLB, "absent, or mode balance-tlb or balance-alb")
	}
	if o.err != nil {
		return Bond{}, o.err
	}
	return b, nil
}

// miimon is a string upstream; a number is taken too.
func (o *object) miimon() int {
	raw := o.raw("miimon")
	if raw == nil {
		return 0
	}
	text := string(raw)
	if raw[0] == '"' {
		text = o.text("miimon")
	}
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil && text != "" {
		o.refuse("miimon", shown(raw), "a string of milliseconds, \"0\" or more")
	}
	return int(n)
}

func (o *object) bondLinks() []string {
	var out []string
	for i, raw := range o.list("links") {
		e := openObject(fmt.Sprintf("%slinks[%d]", o.path, i), raw)
		name := e.text("name")
		switch {
		case len(name) > 127 || !validLinkBytes(name):
			e.refuse("name", name, masterForm)
		case slices.Contains(out, name):
			e.refuse("name", name, "every link once")
		}
		o.close(e)
		out = append(out, name)
	}
	if len(out) < 2 {
		o.refuse("links", fmt.Sprintf("%d links", len(out)), "at least two objects with a name")
	}
	return out
}
