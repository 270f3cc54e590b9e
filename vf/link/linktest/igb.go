package linktest

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/tendril-cni/tendril/vf/link"
)

// Igb is one VF as its PF's driver and its own driver see it. The zero value is
// not usable; see New.
type Igb struct {
	// Attr is what reading on the PF returns.
	Attr link.Attributes
	// Locked is igb's "MAC set by the PF" flag, which cannot be read.
	Locked bool
	// MAC is the address of the VF's own network device.
	MAC string
	// Writes are the steps that were taken, in order, as text; "netdev mac" for
	// those of the VF's own device.
	Writes []string
	// Busy is how often the next writes are answered with EBUSY.
	Busy int
	// Deaf names a field whose writes are accepted and forgotten.
	Deaf string
	// Fail is called before each write (the steps' text) and may return an error
	// in its place: EIO, a crash, whatever the test is about.
	Fail func(write string) error
	// NoLink is a PF without carrier, on which igb refuses rates.
	NoLink bool
}

// New returns a VF just made, whose driver chose mac and announced it.
func New(mac string) *Igb {
	on, off := true, false
	return &Igb{MAC: mac, Attr: link.Attributes{
		MAC: mac, VLAN: link.VLAN{Proto: link.Proto8021Q}, SpoofChk: &on, Trust: &off, LinkState: link.StateAuto,
	}}
}

// String prints the state in one line, without the writes.
func (g *Igb) String() string {
	a := g.Attr
	return fmt.Sprintf("netdev %s pf %s locked %v vlan %d/%d/%s rates %d/%d spoofchk %v trust %v state %s",
		g.MAC, a.MAC, g.Locked, a.VLAN.ID, a.VLAN.QoS, a.VLAN.Proto, a.Rates.Min, a.Rates.Max, *a.SpoofChk, *a.Trust, a.LinkState)
}

// Read implements link.Port.
func (g *Igb) Read() (link.Attributes, error) { return g.Attr, nil }

// Write implements link.Port.
func (g *Igb) Write(s link.Step) error {
	if err := g.before(s.String()); err != nil {
		return err
	}
	if s.Field == g.Deaf {
		return nil
	}
	c := s.Change
	switch s.Field {
	case link.FieldVLAN:
		if c.VLAN.Proto != link.Proto8021Q {
			return unix.EPROTONOSUPPORT
		}
		g.Attr.VLAN = *c.VLAN
	case link.FieldMAC:
		return g.administer(*c.MAC)
	case link.FieldRates:
		if g.NoLink || c.Rates.Min != 0 {
			return unix.EINVAL
		}
		g.Attr.Rates = *c.Rates
	case link.FieldSpoofChk:
		g.Attr.SpoofChk = c.SpoofChk
	case link.FieldTrust:
		g.Attr.Trust = c.Trust
	default:
		return unix.EOPNOTSUPP
	}
	return nil
}

// administer is igb_ndo_set_vf_mac: zeros unlock, any other address locks, and
// the VF's own device keeps what it has.
func (g *Igb) administer(mac string) error {
	if multicast(mac) {
		return unix.EINVAL
	}
	g.Locked, g.Attr.MAC = mac != link.ZeroMAC, mac
	return nil
}

// SetMAC is the VF's own device asking for mac. The kernel does not trouble the
// driver with an address that the device has (netif_set_mac_address); a locked VF
// without trust is refused any other (igbvf_set_mac).
func (g *Igb) SetMAC(mac string) error {
	if g.MAC == mac {
		return nil
	}
	if err := g.before("netdev mac " + mac); err != nil {
		return err
	}
	if g.Locked && !*g.Attr.Trust {
		return unix.EADDRNOTAVAIL
	}
	g.MAC, g.Attr.MAC = mac, mac
	return nil
}

// NetdevMAC returns the address of the VF's own device.
func (g *Igb) NetdevMAC() (string, error) { return g.MAC, nil }

// Reset is what closing the VF's device does: a locked VF takes the PF's address.
func (g *Igb) Reset() {
	if g.Locked {
		g.MAC = g.Attr.MAC
	}
}

func (g *Igb) before(write string) error {
	if g.Busy > 0 {
		g.Busy--
		return unix.EBUSY
	}
	if g.Fail != nil {
		if err := g.Fail(write); err != nil {
			return err
		}
	}
	g.Writes = append(g.Writes, write)
	return nil
}

func multicast(mac string) bool {
	return len(mac) > 1 && strings.ContainsRune("13579bdfBDF", rune(mac[1]))
}
