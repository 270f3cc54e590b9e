package cni_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/journal"
)

// ward is a quarantine that never heals by itself.
type ward struct{ noticed []string }

func (w *ward) Entry(r cni.Record, cause error) (key, value []byte, err error) {
	return w.Key(r.Attachment.Device), []byte(cause.Error()), nil
}

func (w *ward) Key(device string) []byte { return []byte("quarantine/" + device) }

func (w *ward) Noticed(r cni.Record, cause error) {
	w.noticed = append(w.noticed, r.Attachment.Device+": "+cause.Error())
}

// TestInvariant4QuarantineTakesWhatCannotBeGivenBack: the pod's deletion does not
// wait for the VF, and the VF is nobody's until it is back at its baseline.
func TestInvariant4QuarantineTakesWhatCannotBeGivenBack(t *testing.T) {
	w := standard(t)
	e, j := w.start(filepath.Join(t.TempDir(), "journal.db"), nil)
	defer j.Close()
	q := &ward{}
	e.Quarantine = q
	ctx := context.Background()
	if _, err := e.Add(ctx, request("c1")); err != nil {
		t.Fatal(err)
	}
	w.fail["detach net1"] = errors.New("PF is down")
	if err := e.Del(ctx, request("c1")); err != nil {
		t.Fatalf("DEL waits for the VF: %v", err)
	}
	if d := cmp.Diff("c1/net1: sriov 0000:01:10.0\n", w.String()); d != "" {
		t.Errorf("what is left besides the VF: %s", d)
	}
	if len(q.noticed) != 1 || !strings.Contains(q.noticed[0], "PF is down") {
		t.Errorf("the quarantine was told %v", q.noticed)
	}
	_, err := e.Add(ctx, request("c2"))
	var inUse *cni.InUse
	if !errors.As(err, &inUse) || !strings.Contains(inUse.Holder, "quarantine") {
		t.Fatalf("error = %v, want that the device is in quarantine", err)
	}
	err = j.Update("healed", func(tx *journal.Tx) error { return tx.Bucket(journal.VFs).Delete(q.Key("0000:01:10.0")) })
	if err != nil {
		t.Fatal(err)
	}
	delete(w.fail, "detach net1")
	if _, err := e.Add(ctx, request("c2")); err != nil {
		t.Fatal(err)
	}
}

// TestInvariant2WithoutADeviceThereIsNoQuarantine: an interface that cannot be
// removed keeps its record, and DEL fails.
func TestInvariant2WithoutADeviceThereIsNoQuarantine(t *testing.T) {
	w := standard(t)
	e := w.engine()
	e.Quarantine = &ward{}
	if _, err := e.Add(context.Background(), request("c1")); err != nil {
		t.Fatal(err)
	}
	w.fail["detach store0"] = errors.New("busy")
	if err := e.Del(context.Background(), request("c1")); err == nil {
		t.Error("DEL succeeded with a macvlan left")
	}
}
