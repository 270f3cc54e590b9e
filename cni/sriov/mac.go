package sriov

import (
	"context"
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"

	"github.com/tendril-cni/tendril/vf/link"
)

// A VF's MAC is kept in two places: with its PF and in its own network device.
// Drivers of the igb kind have one value on the PF for "set by the PF" and
// "announced by the VF", and a flag, which cannot be read, that says which. While
// the flag is set, an untrusted VF may not set its MAC, not even to the value it
// has. Zeros on the PF clear the flag everywhere. So the order is always: zeros on
// the PF, the address on the device, and then the address on the PF if it is to be
// the administrator's. Each step may be repeated, so a replay starts over.

// ownMAC is the VF's own side.
type ownMAC interface {
	NetdevMAC() (string, error)
	SetMAC(mac string) error
}

// giveMAC makes mac the VF's address, and the administrator's.
func giveMAC(ctx context.Context, t link.Target, p link.Port, own ownMAC, mac string) error {
	now, err := own.NetdevMAC()
	if err != nil {
		return err
	}
	if now != mac {
		if err := replaceMAC(ctx, t, p, own, mac); err != nil {
			return err
		}
	}
	return setPF(ctx, t, p, mac)
}

// restoreMAC brings both sides back to what they were. If the attachment had set
// a MAC, the PF's flag is ours to clear. The recorded value is written to the PF
// only if it was a provisioner's: it differed from the VF's own, or the VF's
// announcement did not bring it back.
func restoreMAC(ctx context.Context, t link.Target, p link.Port, own ownMAC, before prior) error {
	now, err := own.NetdevMAC()
	if err != nil {
		return err
	}
	administered, locked := before.asked(link.FieldMAC), false
	switch {
	case administered:
		err = replaceMAC(ctx, t, p, own, before.MAC)
	case now != before.MAC:
		// The pod changed it. A refusal proves that the PF's flag is set, and was
		// before the attachment.
		if err = own.SetMAC(before.MAC); refusedMAC(err) && before.Attributes != nil {
			locked = true
			err = replaceMAC(ctx, t, p, own, before.MAC)
		}
	}
	if err != nil || before.Attributes == nil {
		return err
	}
	if locked {
		return setPF(ctx, t, p, before.Attributes.MAC)
	}
	if !administered && now == before.MAC {
		return nil
	}
	if before.Attributes.MAC == before.MAC {
		if back, err := reports(ctx, p, before.MAC); err != nil || back {
			return err
		}
	}
	return setPF(ctx, t, p, before.Attributes.MAC)
}

// restorePFMAC is restoreMAC for a VF without a network device. An address that
// its former device had announced went with that device; any other is written back.
func restorePFMAC(ctx context.Context, t link.Target, p link.Port, before prior) error {
	seen, err := p.Read()
	if err != nil {
		return err
	}
	mac := before.Attributes.MAC
	if !before.userspace() && mac == before.MAC {
		mac = link.ZeroMAC
	}
	if seen.MAC == mac {
		return nil
	}
	return setPF(ctx, t, p, mac)
}

// replaceMAC frees the VF's MAC and sets it on its device. A VF that is being
// reset refuses for a moment.
func replaceMAC(ctx context.Context, t link.Target, p link.Port, own ownMAC, mac string) error {
	seen, err := p.Read()
	if err != nil {
		return err
	}
	if seen.MAC != link.ZeroMAC {
		if err := setPF(ctx, t, p, link.ZeroMAC); err != nil {
			return err
		}
	}
	now, err := own.NetdevMAC()
	if err != nil {
		return err
	}
	if now == mac {
		// The kernel keeps an equal address from the driver, and the PF would wait
		// for the announcement in vain.
		if err := setOwn(ctx, t, own, detour(mac)); err != nil {
			return err
		}
	}
	return setOwn(ctx, t, own, mac)
}

// setOwn sets the MAC of the VF's device, again while that is refused for a
// reason that may go away.
func setOwn(ctx context.Context, t link.Target, own ownMAC, mac string) error {
	var last error
	err := until(ctx, settle, func() (bool, error) {
		if last = own.SetMAC(mac); last != nil {
			if refusedMAC(last) {
				return false, nil
			}
			return false, last
		}
		now, err := own.NetdevMAC()
		return now == mac, err
	})
	if errors.Is(err, errNotYet) && last != nil {
		err = link.Refused(t, link.Step{Field: link.FieldMAC, Change: link.Change{MAC: &mac}}, last)
	}
	if err != nil {
		return fmt.Errorf("set MAC %s on the device of %s: %w", mac, t, err)
	}
	return nil
}

// detour is a locally administered address (IEEE 802, second bit of the first
// byte) that differs from mac. It is used for an instant on a device that is down.
func detour(mac string) string {
	hw, err := net.ParseMAC(mac)
	if err != nil || len(hw) != 6 {
		return mac
	}
	hw[0] = hw[0]&^1 | 2
	hw[1] ^= 0x5a
	hw[5] ^= 0x80
	return hw.String()
}

// refusedMAC reports whether err is one that goes away, with time or with the
// PF's permission: EADDRNOTAVAIL of igbvf and ixgbevf, EACCES of iavf.
func refusedMAC(err error) bool {
	for _, e := range []error{unix.EADDRNOTAVAIL, unix.EACCES, unix.EAGAIN, unix.EBUSY, unix.ENETDOWN} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func setPF(ctx context.Context, t link.Target, p link.Port, mac string) error {
	return link.ApplyTo(ctx, p, t, link.Change{MAC: &mac})
}

// reports waits a moment for the VF's announcement to arrive at the PF.
func reports(ctx context.Context, p link.Port, mac string) (bool, error) {
	err := until(ctx, announcement, func() (bool, error) {
		seen, err := p.Read()
		return seen.MAC == mac, err
	})
	if errors.Is(err, errNotYet) {
		return false, nil
	}
	return err == nil, err
}
