package hostdevice

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/cni/netns"
	"github.com/tendril-cni/tendril/cni/refusal"
)

// userspaceDrivers take a device away from the kernel's network stack.
var userspaceDrivers = []string{"vfio-pci", "uio_pci_generic", "igb_uio"}

// userspace reports whether a driver of user space has the PCI device.
func (d *Driver) userspace(pci string) bool {
	driver, err := os.Readlink(filepath.Join(d.sys, "bus/pci/devices", pci, "driver"))
	return err == nil && slices.Contains(userspaceDrivers, filepath.Base(driver))
}

// lookUp reads the link that the configuration names, in the order of the
// reference.
func (d *Driver) lookUp(conn *netns.Conn, conf netconf.HostDevice, object string) (netns.Link, error) {
	if id := conf.DeviceID; id != "" {
		return d.byBus(conn, id, object, "runtimeConfig.deviceID")
	}
	switch {
	case conf.Device != "":
		l, err := conn.LinkByName(conf.Device)
		return l, missing(err, object, "device", conf.Device)
	case conf.HWAddr != "":
		return first(conn, object, "hwaddr", conf.HWAddr, func(l netns.Link) bool { return l.MAC == conf.HWAddr })
	case conf.KernelPath != "":
		return d.byPath(conn, conf.KernelPath, object, "kernelpath", conf.KernelPath)
	}
	return d.byBus(conn, conf.PCI, object, "pciBusID")
}

// byBus finds the link of a PCI or auxiliary device: by what the kernel says of
// its links, and, for devices below another bus such as virtio, by sysfs.
func (d *Driver) byBus(conn *netns.Conn, id, object, field string) (netns.Link, error) {
	links, err := conn.Links()
	if err != nil {
		return netns.Link{}, err
	}
	for _, l := range links {
		if l.ParentDev == id && (l.ParentBus == "pci" || l.ParentBus == "auxiliary") {
			return l, nil
		}
	}
	for _, bus := range []string{"pci", "auxiliary"} {
		dir := filepath.Join(d.sys, "bus", bus, "devices", id)
		if _, err := os.Stat(dir); err == nil {
			return d.byPath(conn, dir, object, field, id)
		}
	}
	return netns.Link{}, missing(netns.ErrNotFound, object, field, id)
}

// byPath finds the link below a directory of sysfs: in net, or in that of a
// virtio device.
func (d *Driver) byPath(conn *netns.Conn, dir, object, field, value string) (netns.Link, error) {
	for _, pattern := range []string{"net/*", "virtio*/net/*"} {
		names, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return netns.Link{}, fmt.Errorf("look below %s: %w", dir, err)
		}
		for _, name := range names {
			if l, err := conn.LinkByName(filepath.Base(name)); err == nil {
				return l, nil
			}
		}
	}
	return netns.Link{}, missing(netns.ErrNotFound, object, field, value)
}

func first(conn *netns.Conn, object, field, value string, is func(netns.Link) bool) (netns.Link, error) {
	links, err := conn.Links()
	if err != nil {
		return netns.Link{}, err
	}
	if i := slices.IndexFunc(links, is); i >= 0 {
		return links[i], nil
	}
	return netns.Link{}, missing(netns.ErrNotFound, object, field, value)
}

// missing turns "no such link" into a refusal.
func missing(err error, object, field, value string) error {
	if !errors.Is(err, netns.ErrNotFound) {
		return err
	}
	return refusal.New(object, field, value, "a network device that is on the host now, and not in a pod").Because(err)
}
