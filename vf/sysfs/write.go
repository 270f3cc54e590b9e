package sysfs

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tendril-cni/tendril/cni/refusal"
	"github.com/tendril-cni/tendril/vf"
)

// How long the kernel may take to show what a write has set going: settle for
// VFs that come and go, probed for a driver, which the kernel has tried by the time
// that it answers.
const (
	settle = 10 * time.Second
	probed = 2 * time.Second
	pause  = 20 * time.Millisecond
)

// SetNumVFs makes n VFs of the PF at a, of which there are none, or removes all
// (n is 0), and reads the number back. The kernel answers when the VFs exist and,
// with autoprobe on, have their drivers: for many VFs that takes tens of seconds,
// and nothing can end the wait. Errors carry the errno: ENOENT for a driver
// without SR-IOV, ERANGE, ENOMEM for a bus without room (pci=realloc).
func (fs *FS) SetNumVFs(ctx context.Context, a vf.Addr, n int) error {
	d, err := fs.function(a)
	if err != nil {
		return err
	}
	defer d.close()
	if err := d.write("sriov_numvfs", strconv.Itoa(n)); err != nil {
		return err
	}
	// The PF's virtfn links appear one by one; the VFs are whole when all are there.
	return d.await(ctx, "sriov_numvfs", strconv.Itoa(n), func() bool {
		links, _ := fs.indexes(a)
		return len(links) == n
	})
}

// SetAutoprobe writes sriov_drivers_autoprobe and reads it back.
func (fs *FS) SetAutoprobe(ctx context.Context, a vf.Addr, on bool) error {
	d, err := fs.function(a)
	if err != nil {
		return err
	}
	defer d.close()
	value := "0"
	if on {
		value = "1"
	}
	if err := d.write("sriov_drivers_autoprobe", value); err != nil {
		return err
	}
	return d.await(ctx, "sriov_drivers_autoprobe", value, func() bool { return true })
}

// Bind gives the VF at a the driver of that name, or, for vf.Kernel, the one that
// the kernel chooses by itself, and reads it back. A VF that has it already is
// left alone. The driver's module must be loaded.
//
// The name goes to driver_override, which makes the kernel probe no other driver
// for this device, and is cleared afterwards, so that a later probe is free again
// (Documentation/ABI/testing/sysfs-bus-pci). A VF that does not get the driver gets
// back the one it had.
func (fs *FS) Bind(ctx context.Context, a vf.Addr, driver string) error {
	d, err := fs.function(a)
	if err != nil {
		return err
	}
	defer d.close()
	was, _ := d.target("driver")
	if fits(was, driver) {
		return nil
	}
	err = fs.give(ctx, d, a, driver)
	if err != nil && was != "" {
		err = errors.Join(err, fs.give(ctx, d, a, was))
	}
	return err
}

// give takes one driver away and brings another.
func (fs *FS) give(ctx context.Context, d dir, a vf.Addr, driver string) error {
	override := driver
	if driver == vf.Kernel {
		override = ""
	}
	if err := d.unbind(a); err != nil {
		return err
	}
	if err := d.override(override); err != nil {
		return err
	}
	err := fs.probe(a)
	if err == nil {
		err = fs.bound(ctx, d, a, driver)
	}
	if override != "" {
		err = errors.Join(err, d.override(""))
	}
	return err
}

// fits reports whether driver now is what Bind was asked for.
func fits(now, driver string) bool {
	if driver == vf.Kernel {
		return now != "" && !vf.UserspaceDriver(now)
	}
	return now == driver
}

// unbind takes the driver away; a function without one is done.
func (d dir) unbind(a vf.Addr) error {
	err := d.write("driver/unbind", a.String())
	if absent(err) {
		return nil
	}
	return err
}

// override names the one driver that may have the function; "" lifts that. The
// kernel wants a newline in place of nothing.
func (d dir) override(driver string) error { return d.write("driver_override", driver+"\n") }

func (fs *FS) probe(a vf.Addr) error {
	bus, err := fs.open("bus/pci")
	if err != nil {
		return err
	}
	defer bus.close()
	return bus.write("drivers_probe", a.String())
}

// bound waits for the driver: drivers_probe reports no failing probe.
func (fs *FS) bound(ctx context.Context, d dir, a vf.Addr, driver string) error {
	var now string
	err := until(ctx, probed, func() (ok bool) {
		now, _ = d.target("driver")
		return fits(now, driver)
	})
	if err == nil {
		return nil
	}
	allowed := "a driver whose module is loaded and that takes this device"
	if _, e := d.target("iommu_group"); driver == vf.VFIO && e != nil {
		allowed = "kernel: the function has no IOMMU group (intel_iommu=on or the firmware's setting)"
	}
	return refusal.New("function "+a.String(), "driver", driver, allowed).Because(fmt.Errorf("bound to %q: %w", now, err))
}

// write sends value in one write(2), as sysfs wants it.
func (d dir) write(name, value string) error {
	fd, err := again(func() (int, error) { return unix.Openat(d.fd, name, unix.O_WRONLY|unix.O_TRUNC|unix.O_CLOEXEC, 0) })
	if err != nil {
		return d.wrap("open", name, err)
	}
	_, err = again(func() (int, error) { return unix.Write(fd, []byte(value)) })
	_ = unix.Close(fd)
	if err != nil {
		return d.wrap(fmt.Sprintf("write %q to", value), name, err)
	}
	return nil
}

// await reads name until it has the value and more is true.
func (d dir) await(ctx context.Context, name, value string, more func() bool) error {
	var now string
	err := until(ctx, settle, func() bool {
		now, _ = d.attribute(name)
		return now == value && more()
	})
	if err != nil {
		return d.wrap("read back", name, fmt.Errorf("it is %q, wanted %q: %w", now, value, err))
	}
	return nil
}

var errNotKept = errors.New("the kernel did not keep it")

// until polls for at most limit, and never beyond ctx.
func until(ctx context.Context, limit time.Duration, done func() bool) error {
	end := time.After(limit)
	for !done() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-end:
			return errNotKept
		case <-time.After(pause):
		}
	}
	return nil
}
