package netconf

import (
	"path"
	"strings"
)

// HostDevice is the configuration of a device of the host that goes into the
// pod. Exactly the first one set, in this order, names the device; DeviceID,
// when it is set, stands before PCI.
type HostDevice struct {
	// Device is a link's name or alternative name, HWAddr its hardware address
	// in lower-case colon form, KernelPath a directory below /sys/devices.
	Device, HWAddr, KernelPath string
	// PCI is pciBusID.
	PCI string
	// DeviceID is runtimeConfig.deviceID (or deviceID as a meta-plugin sets it):
	// a PCI address or the name of an auxiliary device.
	DeviceID string
}

// ParseHostDevice reads the configuration of host-device (containernetworking
// plugins v1.9, main/host-device). A network that names no device is not refused
// here, since the attachment may have one: see HostDevice.Named. Every error is
// a refusal.Refusal without an object.
func ParseHostDevice(p Plugin) (HostDevice, error) {
	o := openObject("", p.Raw)
	h := HostDevice{Device: o.text("device"), KernelPath: o.text("kernelpath"), PCI: o.text("pciBusID")}
	if h.Device != "" && (len(h.Device) > 127 || !validLinkBytes(h.Device)) {
		o.refuse("device", h.Device, masterForm)
	}
	if mac := o.text("hwaddr"); mac != "" {
		// InfiniBand addresses have 20 bytes: any length that Go parses will do.
		hw, ok := parseHardware(mac)
		if !ok {
			o.refuse("hwaddr", mac, "a hardware address in colon form")
		}
		h.HWAddr = hw
	}
	if k := h.KernelPath; k != "" && (path.Clean(k) != strings.TrimSuffix(k, "/") || !strings.HasPrefix(k, "/sys/devices/")) {
		o.refuse("kernelpath", k, "a path below /sys/devices/, without . and ..")
	}
	if h.PCI != "" && !validDevice(h.PCI) {
		o.refuse("pciBusID", h.PCI, "a PCI address such as 0000:01:10.2")
	}
	if rc := o.open("runtimeConfig"); rc != nil {
		h.DeviceID = rc.text("deviceID")
		if h.DeviceID != "" && !validDevice(h.DeviceID) {
			rc.refuse("deviceID", h.DeviceID, "a PCI address or the name of an auxiliary device")
		}
		o.close(rc)
	}
	if o.err != nil {
		return HostDevice{}, o.err
	}
	return h, nil
}

// Named reports whether the configuration says which device.
func (h HostDevice) Named() bool {
	return h.Device != "" || h.HWAddr != "" || h.KernelPath != "" || h.PCI != "" || h.DeviceID != ""
}

// validDevice reports whether s is safe as one element of a path below /sys/bus.
func validDevice(s string) bool {
	return len(s) <= 64 && s != "." && s != ".." && !strings.ContainsAny(s, "/\x00")
}
