package sriov_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/cni/refusal"
	"github.com/tendril-cni/tendril/cni/sriov"
	"github.com/tendril-cni/tendril/vf/sysfs"
	"github.com/tendril-cni/tendril/vf/vftest"
)

func attachment(device, config string) cni.Attachment {
	return cni.Attachment{
		ContainerID: "c", IfName: "net1", Network: "blue/fast", Kind: cni.KindSriov, Device: device, Pod: cni.PodRef{Namespace: "blue", Name: "p"},
		Config: netconf.Network{Name: "fast", Plugins: []netconf.Plugin{{Type: "sriov", Raw: json.RawMessage(config)}}},
	}
}

// TestInvariant9PriorRefusesOnAnyMachine has the refusals that need no NIC. The
// tree's VFs have network devices that the real host lacks, so they look like VFs
// that are in a pod.
func TestInvariant9PriorRefusesOnAnyMachine(t *testing.T) {
	first, second := vftest.Igb(), vftest.Second()
	second.VFDriver = "vfio-pci"
	const dir = "devices/pci0000:00/0000:01:10.2/"
	tree := vftest.Archive(first, second) +
		"-- LINKS --\n!" + dir + "driver\n" + dir + "net/\n" + // 0000:01:10.2 has no driver
		"!devices/pci0000:00/0000:01:00.0/virtfn2\n" + // nobody lists 0000:01:10.4
		"devices/pci0000:00/0000:02:00.0/net/\n" // PF 0000:02:00.0 is not on the host
	d := sriov.New(sysfs.New(vftest.Tree(t, tree)), slog.New(slog.DiscardHandler))
	const plain = `{"type":"sriov"}`
	rows := []struct{ name, device, config, field, say string }{
		{"no device", "", plain, "deviceID", "dddd:bb:dd.f"},
		{"not an address", "eth0", plain, "deviceID", `"eth0"`},
		{"unknown", "0000:7f:00.0", plain, "deviceID", "no such PCI function"},
		{"a PF", "0000:01:00.0", plain, "deviceID", "not a virtual function"},
		{"in a pod", "0000:01:10.0", plain, "deviceID", "another network namespace"},
		{"no driver", "0000:01:10.2", plain, "driver of VF 0000:01:10.2", "vfio-pci"},
		{"not listed by its PF", "0000:01:10.4", plain, "deviceID", "does not list"},
		{"MTU for userspace", "0000:02:10.0", `{"type":"sriov","mtu":1400}`, "mtu", "vfio-pci"},
		{"VLAN without PF device", "0000:02:10.0", `{"type":"sriov","vlan":5}`, "deviceID", "0000:02:00.0"},
		{"VLAN out of range", "0000:02:10.0", `{"type":"sriov","vlan":4095}`, "vlan", "4094"},
		{"group MAC", "0000:02:10.0", `{"type":"sriov","mac":"33:33:00:00:00:01"}`, "mac", "unicast"},
		{"zero MAC", "0000:02:10.0", `{"type":"sriov","mac":"00:00:00:00:00:00"}`, "mac", "unicast"},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			_, err := d.Prior(context.Background(), attachment(r.device, r.config))
			var ref *refusal.Refusal
			if !errors.As(err, &ref) || ref.Field != r.field || !strings.Contains(ref.Error(), r.say) || ref.Object == "" {
				t.Errorf("got %v", err)
			}
		})
	}
}

// A VF on a userspace driver needs nothing of the kernel when nothing is asked.
func TestUserspaceVFWithoutSettings(t *testing.T) {
	n := vftest.Second()
	n.VFDriver = "vfio-pci"
	d := sriov.New(sysfs.New(vftest.Tree(t, vftest.Archive(n)+"-- LINKS --\ndevices/pci0000:00/0000:02:00.0/net/\n")), slog.New(slog.DiscardHandler))
	a := attachment("0000:02:10.2", `{"type":"sriov"}`)
	prior, err := d.Prior(context.Background(), a)
	if err != nil {
		t.Fatal(err)
	}
	r := cni.Record{Attachment: a, Prior: prior, Phase: cni.Intent}
	l, err := d.Attach(context.Background(), nil, r)
	if want := (cni.Link{Name: "net1", PCI: "0000:02:10.2"}); err != nil || l != want {
		t.Errorf("Attach: %+v, %v; want %+v", l, err, want)
	}
	for range 2 {
		if err := d.Detach(context.Background(), nil, r); err != nil {
			t.Errorf("Detach: %v", err)
		}
	}
}

// The VF, or the whole card, may be gone by the time of DEL.
func TestInvariant2AbsentIsDone(t *testing.T) {
	n := vftest.Second()
	n.VFDriver = "vfio-pci"
	with := sriov.New(sysfs.New(vftest.Tree(t, vftest.Archive(n)+"-- LINKS --\ndevices/pci0000:00/0000:02:00.0/net/\n")), slog.New(slog.DiscardHandler))
	a := attachment("0000:02:10.2", `{"type":"sriov"}`)
	prior, err := with.Prior(context.Background(), a)
	if err != nil {
		t.Fatal(err)
	}
	without := sriov.New(sysfs.New(t.TempDir()), slog.New(slog.DiscardHandler))
	for name, r := range map[string]cni.Record{
		"VF gone": {Attachment: a, Prior: prior, Phase: cni.Attached}, "no prior state": {Attachment: a, Phase: cni.Intent},
	} {
		if err := without.Detach(context.Background(), nil, r); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := without.Detach(context.Background(), nil, cni.Record{Attachment: a, Prior: json.RawMessage(`{}`)}); err == nil {
		t.Error("a record that nobody can read was taken for done")
	}
}
