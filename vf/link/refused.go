package link

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/tendril-cni/tendril/cni/refusal"
)

// Refused turns the errno with which a driver answered s into a refusal that
// names driver, field, value and what it would have taken. Other errors, such as
// EPERM or ENODEV, come back as they are: they say nothing about the value.
func Refused(t Target, s Step, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EOPNOTSUPP):
		r := s.refusal(t)
		r.Allowed = fmt.Sprintf("nothing: driver %s cannot set it, leave the field out", t.Driver)
		return r.Because(err)
	case errors.Is(err, unix.EPROTONOSUPPORT) && s.Field == FieldVLAN:
		return refusal.New(t.String(), "vlanProto", s.Change.VLAN.Proto, Proto8021Q).Because(err)
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ERANGE),
		errors.Is(err, unix.EADDRNOTAVAIL), errors.Is(err, unix.EPROTONOSUPPORT):
		return s.refusal(t).Because(err)
	}
	return err
}

// refusal says what drivers take for the step's field.
func (s Step) refusal(t Target) *refusal.Refusal {
	object, c := t.String(), s.Change
	switch s.Field {
	case FieldVLAN:
		return refusal.New(object, FieldVLAN, fmt.Sprintf("%d, vlanQoS %d, vlanProto %s", c.VLAN.ID, c.VLAN.QoS, c.VLAN.Proto),
			"vlan 0..4094, vlanQoS 0..7, and a protocol that the driver has")
	case FieldMAC:
		return refusal.New(object, FieldMAC, *c.MAC, "a unicast address that no other VF of the PF has")
	case FieldRates:
		if c.Rates.Min != 0 {
			return refusal.New(object, "min_tx_rate", fmt.Sprintf("%d Mbit/s with max_tx_rate %d", c.Rates.Min, c.Rates.Max),
				"0, or a rate below max_tx_rate where the driver can guarantee one; the PF must have link")
		}
		return refusal.New(object, FieldRates, fmt.Sprintf("%d Mbit/s", c.Rates.Max), "0 up to the PF's link speed; the PF must have link")
	case FieldSpoofChk:
		return refusal.New(object, FieldSpoofChk, onOff(*c.SpoofChk), "on, off")
	case FieldTrust:
		return refusal.New(object, FieldTrust, onOff(*c.Trust), "on, off")
	}
	return refusal.New(object, s.Field, *c.LinkState, "auto, enable, disable")
}

// refusedMTU turns a driver's EINVAL into a refusal; no driver says its limits
// there, the kernel knows them as min_mtu and max_mtu (ip -d link).
func refusedMTU(name string, mtu int, err error) error {
	if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ERANGE) {
		return err
	}
	return refusal.New("device "+name, "mtu", mtu, "an MTU between the device's minmtu and maxmtu (ip -d link show "+name+")").Because(err)
}
