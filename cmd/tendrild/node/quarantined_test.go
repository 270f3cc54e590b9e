package node

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/vf/quarantine"
)

// entryStore is a quarantine.Store in memory.
type entryStore map[string][]byte

func (s entryStore) All() (map[string][]byte, error) { return s, nil }
func (s entryStore) Put(k string, v []byte) error    { s[k] = v; return nil }
func (s entryStore) Delete(k string) error           { delete(s, k); return nil }

// TestQuarantineIsToldOnTheNode: its pod is gone, so nobody would look there.
func TestQuarantineIsToldOnTheNode(t *testing.T) {
	ward, err := quarantine.New(quarantine.Options{Store: entryStore{}, BootID: "b", Log: slog.New(slog.DiscardHandler),
		Restore: func(context.Context, quarantine.Entry) error { return errors.New("busy") }})
	if err != nil {
		t.Fatal(err)
	}
	var reason, message string
	v := &vfs{ward: ward, boot: "b", warn: func(r, m string) { reason, message = r, m }}
	v.Noticed(cni.Record{Attachment: cni.Attachment{Device: "0000:01:10.2", IfName: "net1", Pod: cni.PodRef{Namespace: "blue", Name: "web"}}}, errors.New("the MAC stays"))
	if reason != "VFQuarantined" {
		t.Errorf("reason %q", reason)
	}
	for _, want := range []string{"0000:01:10.2", "blue/web", "net1", "the MAC stays"} {
		if !strings.Contains(message, want) {
			t.Errorf("%q does not say %q", message, want)
		}
	}
	if len(ward.Entries()) != 1 {
		t.Errorf("entries %v", ward.Entries())
	}
}
