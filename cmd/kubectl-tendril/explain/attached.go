package explain

import (
	"fmt"
	"strings"

	"github.com/tendril-cni/tendril/cni/inspect"
)

// devices says which device each network has got.
func (c *chain) devices() {
	l := c.link(linkDevices)
	for _, w := range c.wishes {
		if w.resource == "" {
			continue
		}
		if device, where := c.device(w); device != "" {
			l.say("%s: %s%s", w.ifName, device, where)
		} else if c.facts.Pod.Spec.NodeName != "" && c.facts.Daemon.Unasked == "" && c.facts.Daemon.Name != "" {
			l.wait("%s: no device of %s yet", w.ifName, w.resource)
		} else {
			l.wait("%s: a device of %s is chosen on the node", w.ifName, w.resource)
		}
	}
	if len(c.needed()) == 0 {
		l.none("none that is known of")
	} else if !c.whole() {
		c.sick(l)
		c.blame(l)
	}
}

// device is the PCI address that a network has, and where that is.
func (c *chain) device(w wish) (address, where string) {
	if a := c.facts.attachment(w.ifName); a != nil {
		address = a.Device
	}
	if s := statusOf(c.state, w.ifName); address == "" && s != nil {
		address = pciOf(s.DeviceInfo)
	}
	if inv := c.facts.Daemon.Inventory; inv != nil {
		for _, v := range inv.VFs {
			if v.Address == address {
				where = fmt.Sprintf(", VF %d of %s, driver %s", v.Index, v.PF, v.Driver)
			}
		}
	}
	return address, where
}

// pciOf takes the address out of the device information that the status has.
func pciOf(info any) string {
	m, _ := info.(map[string]any)
	pci, _ := m["pci"].(map[string]any)
	address, _ := pci["pci-address"].(string)
	return address
}

// sick names devices of the pod's pools that cannot be given out.
func (c *chain) sick(l *Link) {
	inv := c.facts.Daemon.Inventory
	if inv == nil {
		return
	}
	needed := c.needed()
	for _, v := range inv.VFs {
		if needed[v.Resource] > 0 && (v.State == inspect.Quarantined || v.State == inspect.Unfit) {
			l.say("VF %d of %s (%s) is in state %s: %s", v.Index, v.PF, v.Address, v.State, v.Why)
		}
	}
}

// addresses says what each network has got from its address management.
func (c *chain) addresses() {
	l := c.link(linkAddresses)
	any := false
	for _, w := range c.wishes {
		kind := w.ipam()
		if kind == "" {
			continue
		}
		any = true
		if got := c.got(w); len(got) > 0 {
			l.say("%s: %s (%s)", w.ifName, strings.Join(got, ", "), kind)
		} else {
			l.wait("%s: none of %s yet", w.ifName, kind)
		}
	}
	if !any {
		l.none("none that is known of")
		return
	}
	if !c.whole() {
		c.blame(l)
	}
}

func (c *chain) got(w wish) []string {
	if a := c.facts.attachment(w.ifName); a != nil && len(a.Addresses) > 0 {
		return a.Addresses
	}
	if s := statusOf(c.state, w.ifName); s != nil {
		return s.IPs
	}
	return nil
}

// attachments says how far each interface has come: by the node's journal where
// the daemon was asked, and by the pod's own status.
func (c *chain) attachments() {
	l := c.link(linkAttachments)
	for _, w := range c.wishes {
		a, s := c.facts.attachment(w.ifName), statusOf(c.state, w.ifName)
		switch {
		case a != nil && a.Phase == "attached" && s == nil:
			l.wait("%s: %s attached to %s; the pod's network-status does not say so yet", w.ifName, a.Kind, w.ref)
		case a != nil && a.Phase != "attached":
			l.wait("%s: %s to %s, last step recorded: %s", w.ifName, a.Kind, w.ref, a.Phase)
		case s != nil && a == nil && c.facts.Daemon.Unasked == "" && c.facts.Daemon.Name != "" && c.facts.Daemon.Trouble == "":
			l.fail("make the pod again: the node's daemon does not know this interface",
				"%s: network-status says %s, and the node's journal does not have it", w.ifName, s.Name)
		case s != nil:
			l.say("%s: %s attached to %s%s", w.ifName, w.kind(), w.ref, hardware(s.MAC, s.MTU))
		default:
			l.wait("%s: not attached to %s yet%s", w.ifName, w.ref, c.tried(w.ifName))
		}
	}
	if l.State != OK {
		c.blame(l)
		c.unblamed(l)
	}
}

// tried says at which step the last call failed for an interface.
func (c *chain) tried(ifName string) string {
	t := c.facts.last()
	if t == nil || t.Error == "" {
		return ""
	}
	last := ""
	for _, s := range t.Steps {
		if s.Interface == ifName || s.Interface == "" && s.Error != "" {
			last = s.Name
			if s.Error != "" {
				break
			}
		}
	}
	if last == "" {
		return fmt.Sprintf("; the last try, call %s, did not come to it", t.Call)
	}
	return fmt.Sprintf("; the last try, call %s, came to the step %s", t.Call, last)
}

func hardware(mac string, mtu int) string {
	out := ""
	if mac != "" {
		out = ", mac " + mac
	}
	if mtu > 0 {
		out += fmt.Sprintf(", mtu %d", mtu)
	}
	return out
}

// blame makes the link fail if the newest trouble is its.
func (c *chain) blame(l *Link) {
	if c.trouble.link == l.Name {
		c.complain(l)
	}
}

// complain tells the trouble: it stands before what is missing because of it.
func (c *chain) complain(l *Link) {
	says := l.Says
	l.Says = nil
	l.fail(c.trouble.do, "%s", c.trouble.says)
	l.Says = append(l.Says, says...)
}

// unblamed makes sure that a trouble which belongs to a link that looks well is
// told: it was so when the pod was tried last.
func (c *chain) unblamed(l *Link) {
	if c.trouble.says == "" {
		return
	}
	for _, other := range c.report.Chain {
		if other.State == Fail || other.Name == c.trouble.link && other.State == Wait {
			return
		}
	}
	c.complain(l)
}
