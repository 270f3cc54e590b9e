package cni

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/tendril-cni/tendril/cni/netconf"
)

// DeviceInfoDir is where the device-info specification 1.1.0 has the files of
// devices, below it dp for those of device plugins and cni for those of
// attachments.
const DeviceInfoDir = "/var/run/k8s.cni.cncf.io/devinfo"

// capDeviceInfo is the capability by which a plugin is told the path of its
// attachment's file (device-info specification 1.1.0, section "CNI").
const capDeviceInfo = "CNIDeviceInfoFile"

// DeviceInfo keeps the device-info files: device plugins describe their devices
// in some, plugins may complete the description in others.
type DeviceInfo interface {
	// Prepare makes the file of a's own, a copy of the device plugin's. A device
	// plugin that wrote none is no error, and no file is made then.
	Prepare(a Attachment) error
	// Read returns what is known of a's device: its own file's content, or else
	// the device plugin's; nil for neither.
	Read(a Attachment) (json.RawMessage, error)
	// Remove removes a's own file. Absent is done.
	Remove(a Attachment) error
}

// InfoFile returns the path of the attachment's own device-info file, "" for
// none: its plugins do not ask for one, or it has no device.
func (a Attachment) InfoFile() string {
	var path string
	_ = json.Unmarshal(a.RuntimeConfig[capDeviceInfo], &path)
	return path
}

// withInfoFile gives a foreign attachment its device-info file, under the name
// that Multus gives it.
func withInfoFile(a Attachment) Attachment {
	declared := slices.ContainsFunc(a.Config.Plugins, func(p netconf.Plugin) bool { return p.Capabilities[capDeviceInfo] })
	if a.Device == "" || a.Default || !declared {
		return a
	}
	name := strings.ReplaceAll(a.Network+"-"+a.ContainerID+"_"+a.IfName, "/", "-")
	a.RuntimeConfig[capDeviceInfo], _ = json.Marshal(DeviceInfoDir + "/cni/" + name)
	return a
}

// prepareInfo makes the attachment's file, before its plugins run. As in Multus,
// one that cannot be made costs the pod a description and not its network.
func (e *Engine) prepareInfo(a Attachment) {
	if e.DeviceInfo == nil || a.InfoFile() == "" {
		return
	}
	if err := e.DeviceInfo.Prepare(a); err != nil {
		e.Log.Warn("device-info not offered to plugins", "pod", a.Pod, "ifname", a.IfName, "pci", a.Device, "error", err)
	}
}

// readInfo returns what network-status says of the attachment's device.
func (e *Engine) readInfo(a Attachment) json.RawMessage {
	if a.Device == "" || a.Default {
		return nil
	}
	if e.DeviceInfo != nil {
		info, err := e.DeviceInfo.Read(a)
		if err != nil {
			e.Log.Warn("device-info not read", "pod", a.Pod, "ifname", a.IfName, "pci", a.Device, "error", err)
		} else if len(info) > 0 {
			return info
		}
	}
	return pciInfo(a.Device)
}

// pciInfo is the least that can be said of a PCI device.
func pciInfo(device string) json.RawMessage {
	info, _ := json.Marshal(map[string]any{"type": "pci", "version": "1.1.0", "pci": map[string]string{"pci-address": device}})
	return info
}

// removeInfo removes the attachment's file, after its plugins ran.
func (e *Engine) removeInfo(a Attachment) error {
	if e.DeviceInfo == nil || a.InfoFile() == "" {
		return nil
	}
	return e.DeviceInfo.Remove(a)
}
