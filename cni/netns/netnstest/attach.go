package netnstest

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/cni/refusal"
)

// Attachment is a pod's net1 on network blue/storage whose one plugin has that
// configuration, of that kind.
func Attachment(kind, conf string) cni.Attachment {
	return cni.Attachment{
		ContainerID: Name("container"), IfName: "net1", Pod: cni.PodRef{Namespace: "blue", Name: "web"},
		Network: "blue/storage", Kind: kind,
		Config:  netconf.Network{Name: "storage", CNIVersion: "1.0.0", Plugins: []netconf.Plugin{{Type: kind, Raw: json.RawMessage(conf)}}},
		Vouched: true,
	}
}

// Attach does with a driver what the engine does: prior, record, attach.
func Attach(d cni.Driver, ns *os.File, a cni.Attachment) (cni.Record, error) {
	ctx := context.Background()
	r := cni.Record{Attachment: a, Phase: cni.Intent}
	var err error
	if r.Prior, err = d.Prior(ctx, a); err != nil {
		return r, err
	}
	if r.Link, err = d.Attach(ctx, ns, r); err != nil {
		return r, err
	}
	r.Phase = cni.Attached
	return r, nil
}

// MustAttach is Attach for a test that needs it to succeed.
func MustAttach(t testing.TB, d cni.Driver, ns *os.File, a cni.Attachment) cni.Record {
	t.Helper()
	r, err := Attach(d, ns, a)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Modify does with a modifier what the engine does, to the interface of r.
func Modify(m cni.Modifier, ns *os.File, r cni.Record, kind, conf string) (cni.Record, error) {
	ctx := context.Background()
	r.Attachment.Config.Plugins = []netconf.Plugin{{Type: kind, Raw: json.RawMessage(conf)}}
	var err error
	if r.Prior, err = m.Prior(ctx, ns, r.Attachment); err != nil {
		return r, err
	}
	r.Link, err = m.Attach(ctx, ns, r)
	return r, err
}

// Refused checks that err is a refusal of field and that its text has the words.
func Refused(t testing.TB, err error, field string, words ...string) {
	t.Helper()
	var r *refusal.Refusal
	if !errors.As(err, &r) || r.Field != field || r.Object == "" || r.Allowed == "" {
		t.Errorf("got %v, want a refusal of field %s", err, field)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("the refusal does not say %q: %v", w, err)
		}
	}
}
