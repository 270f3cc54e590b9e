package state_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tendril-cni/tendril/cmd/tendril-cni/state"
	"github.com/tendril-cni/tendril/cni"
)

func entry(kind, container, device string) *state.Entry {
	return &state.Entry{Record: cni.Record{Attachment: cni.Attachment{Kind: kind, ContainerID: container, IfName: "net1", Device: device}, Phase: cni.Intent}}
}

func open(t *testing.T, dir string) *state.Dir {
	t.Helper()
	d, err := state.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestRecordsOutliveTheProcess(t *testing.T) {
	dir := t.TempDir()
	e := entry("macvlan", "c1", "")
	if err := open(t, dir).Put(e); err != nil {
		t.Fatal(err)
	}
	d := open(t, dir)
	got, ok, err := d.Get(entry("macvlan", "c1", "").Record.Attachment, "")
	if err != nil || !ok || d.Stale(got) || d.Stale(*e) {
		t.Fatalf("%+v, %v, %v", got, ok, err)
	}
	if diff := cmp.Diff(*e, got, cmp.Comparer(func(a, b cni.Attachment) bool { return a.ContainerID == b.ContainerID })); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for range 2 {
		if err := d.Remove(e.Record.Attachment, ""); err != nil {
			t.Fatal(err)
		}
	}
	if all, err := d.All("macvlan"); err != nil || len(all) != 0 {
		t.Errorf("%v, %v", all, err)
	}
}

func TestRecordOfAnotherBootIsStale(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "bridge"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"c1@net1.json": `{"boot":"another"}`, "c2@net1.json": `{"boo`, "c3@net1.json": ``} {
		if err := os.WriteFile(filepath.Join(dir, "bridge", name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d := open(t, dir)
	all, err := d.All("bridge")
	if err != nil || len(all) != 1 || !d.Stale(all[0]) {
		t.Errorf("%v, %v; want the whole one, stale", all, err)
	}
}

func TestInvariant4DeviceHasOneRecord(t *testing.T) {
	d := open(t, t.TempDir())
	if err := d.Put(entry("sriov", "c1", "0000:01:10.2")); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"sriov", "host-device"} {
		err := d.Put(entry(kind, "c2", "0000:01:10.2"))
		var inUse *cni.InUse
		if !errors.As(err, &inUse) || inUse.Device != "0000:01:10.2" {
			t.Errorf("%s: %v", kind, err)
		}
		if _, ok, err := d.Get(entry(kind, "c2", "").Record.Attachment, ""); ok || err != nil {
			t.Errorf("%s: recorded all the same: %v", kind, err)
		}
	}
	if err := d.Put(entry("sriov", "c1", "0000:01:10.2")); err != nil {
		t.Errorf("its own again: %v", err)
	}
	if err := d.Put(entry("sriov", "c2", "0000:01:10.4")); err != nil {
		t.Error(err)
	}
}
