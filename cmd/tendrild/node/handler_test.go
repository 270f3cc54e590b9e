package node

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"

	"github.com/tendril-cni/tendril/cni/flight"
	"github.com/tendril-cni/tendril/cni/rpc"
)

// TestErrorAndLogNameTheCall: what the runtime shows to people leads to the
// daemon's lines.
func TestErrorAndLogNameTheCall(t *testing.T) {
	var out bytes.Buffer
	h := handler{dirs: func() []string { return nil }, log: slog.New(flight.Handler(slog.NewJSONHandler(&out, nil)))}
	reply := h.Handle(context.Background(), &rpc.Call{Request: rpc.Request{ID: "0123abcd-xyz", Command: "DANCE", StdinData: []byte(`{"cniVersion":"1.1.0"}`)}})
	var e struct{ Msg, Details string }
	if err := json.Unmarshal(reply.Stdout, &e); err != nil {
		t.Fatal(err)
	}
	if reply.ExitCode != 1 || !strings.Contains(e.Msg, "DANCE") || e.Details != "call 0123abcd-xyz" {
		t.Errorf("answer is %+v", e)
	}
	if !strings.Contains(out.String(), `"call":"0123abcd-xyz"`) {
		t.Errorf("log is %s", out.String())
	}
}
