package sriov_test

import (
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/sriov"
	"github.com/tendril-cni/tendril/vf/sysfs"
	"github.com/tendril-cni/tendril/vf/vftest"
)

// A PF that cannot be read, as when the process is out of file descriptors, is not a
// PF without the VF: the record is all that knows of the tenant's VLAN on it.
func TestInvariant2UnreadablePFKeepsTheRecord(t *testing.T) {
	note := json.RawMessage(`{"vf":"0000:01:10.2","pf":"0000:01:00.0","index":1,"driver":"igbvf","netdev":"sriov0v1","mac":"02:00:00:00:00:01","mtu":1500,"asked":["vlan"]}`)
	r := cni.Record{Attachment: cni.Attachment{Kind: cni.KindSriov, Device: "0000:01:10.2", IfName: "net1", ContainerID: "c1"}, Prior: note, Phase: cni.Attached}
	gone := vftest.TwoNICs() + "-- LINKS --\n!bus/pci/devices/0000:01:00.0\n"
	root := vftest.Tree(t, gone)
	d := sriov.New(sysfs.New(root), slog.New(slog.DiscardHandler))
	if err := d.Detach(t.Context(), nil, r); err != nil {
		t.Errorf("the PF is gone, and its VFs with it: %v", err)
	}
	if err := os.WriteFile(filepath.Join(root, "bus/pci/devices/0000:01:00.0"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := d.Detach(t.Context(), nil, r); err == nil {
		t.Error("the PF cannot be read, and the record was given up")
	}
}
