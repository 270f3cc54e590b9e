package link

import "fmt"

// ZeroMAC is the MAC of a VF for which the PF has none, and what is written to
// take an administrative MAC back.
const ZeroMAC = "00:00:00:00:00:00"

// VLAN protocols, as configurations spell them (IEEE 802.1Q and 802.1ad).
const (
	Proto8021Q  = "802.1q"
	Proto8021AD = "802.1ad"
)

// Link states of a VF (IFLA_VF_LINK_STATE, linux/if_link.h).
const (
	StateAuto    = "auto"
	StateEnable  = "enable"
	StateDisable = "disable"
)

// Target names one VF by its PF's network device and its index there.
type Target struct {
	// PF is the name of the PF's network device.
	PF string
	// Driver is the PF's driver; it is only used to say who refused a value.
	Driver string
	// Index counts from 0, as the virtfn links in sysfs do.
	Index int
}

// String returns, for example, "VF 3 of PF sriov0 (driver igb)".
func (t Target) String() string {
	return fmt.Sprintf("VF %d of PF %s (driver %s)", t.Index, t.PF, t.Driver)
}

// VLAN is the tag that the PF puts on and takes off a VF's frames. ID 0 is none.
type VLAN struct {
	ID    int    `json:"id"`  // 0..4094
	QoS   int    `json:"qos"` // 0..7
	Proto string `json:"proto"`
}

// Rates limit what a VF sends, in Mbit/s; 0 is no limit and no guarantee.
type Rates struct {
	Min int `json:"min"`
	Max int `json:"max"`
}

// Attributes are what the PF reports about one VF.
type Attributes struct {
	// MAC in lower-case colon form. What it means depends on the driver: some
	// report the administrative address alone, igb and its kin report the one
	// value that the PF set or the VF announced, whichever came last.
	MAC   string `json:"mac"`
	VLAN  VLAN   `json:"vlan"`
	Rates Rates  `json:"rates"`
	// SpoofChk and Trust are nil when the driver does not report them.
	SpoofChk *bool `json:"spoofChk,omitempty"`
	Trust    *bool `json:"trust,omitempty"`
	// LinkState is auto also for drivers that know no link state.
	LinkState string `json:"linkState"`
}

// Change is what shall be written; nil fields are left alone.
type Change struct {
	VLAN *VLAN
	// MAC is written even if it equals the value read: on igb-class drivers an
	// equal write is what makes an announced address an administrative one, and
	// reading cannot tell the two apart. ZeroMAC takes the address back.
	MAC       *string
	Rates     *Rates
	SpoofChk  *bool
	Trust     *bool
	LinkState *string
}

// Empty reports whether c asks for nothing.
func (c Change) Empty() bool { return c == Change{} }
