package flight_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/flight"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// call makes one call of a pod with a step that ends with err.
func call(r *flight.Recorder, id, pod string, err error) {
	f := r.Begin(cni.Call{ID: id, Verb: "ADD", Container: "0123456789" + id, IfName: "eth0", Pod: cni.PodRef{Namespace: "blue", Name: pod}})
	f.Step(cni.StepAttach, &cni.Attachment{Network: "blue/net", IfName: "net1", Kind: cni.KindMacvlan}, time.Now(), err)
	f.End(cni.PodRef{}, err)
}

func ids(traces []flight.Trace) (out []string) {
	for _, t := range traces {
		out = append(out, t.Call)
	}
	return out
}

func size(t *testing.T, traces []flight.Trace) int {
	data, err := json.Marshal(traces)
	if err != nil {
		t.Fatal(err)
	}
	return len(data)
}

func TestMemoryIsBounded(t *testing.T) {
	r := flight.New(flight.Options{Calls: 10, Failures: 5, Log: quiet})
	for i := range 100 {
		call(r, fmt.Sprint(i), "web", nil)
	}
	if got := r.Traces(flight.Filter{}); len(got) != 10 || got[9].Call != "99" || got[0].Call != "90" {
		t.Errorf("kept %v, want the last ten", ids(got))
	}
	long := strings.Repeat("x", 1<<20)
	small := flight.New(flight.Options{Bytes: 100 << 10, FailureBytes: 50 << 10, Log: quiet})
	for i := range 1000 {
		call(small, fmt.Sprint(i), "web", fmt.Errorf("%d %s", i, long))
	}
	got := small.Traces(flight.Filter{})
	if n := size(t, got); n > 150<<10 || len(got) < 5 {
		t.Errorf("%d traces of %d bytes are kept, want at most 150 KiB", len(got), n)
	}
}

// TestBusyNodeKeepsTheFailure: a thousand calls that went well do not push out
// the one that did not.
func TestBusyNodeKeepsTheFailure(t *testing.T) {
	r := flight.New(flight.Options{Log: quiet})
	call(r, "bad", "db", errors.New("no"))
	for i := range 1000 {
		call(r, fmt.Sprint(i), "web", nil)
	}
	if got := r.Traces(flight.Filter{Failed: true}); len(got) != 1 || got[0].Call != "bad" {
		t.Errorf("failures are %v", ids(got))
	}
}

func TestRepeatedFailureIsOneTrace(t *testing.T) {
	r := flight.New(flight.Options{Calls: 1, Log: quiet})
	call(r, "other", "db", errors.New("other"))
	for i := range 100 {
		call(r, fmt.Sprint(i), "web", errors.New("no"))
	}
	got := r.Traces(flight.Filter{Failed: true})
	if len(got) != 2 || got[0].Call != "other" || got[1].Call != "99" || got[1].Repeats != 99 || got[1].First.IsZero() || got[1].First.After(got[1].Start) {
		t.Errorf("failures are %+v", got)
	}
}

func TestFilter(t *testing.T) {
	r := flight.New(flight.Options{Log: quiet})
	call(r, "a", "web", nil)
	call(r, "b", "db", errors.New("no"))
	call(r, "c", "web", nil)
	for _, test := range []struct {
		filter flight.Filter
		want   string
	}{
		{flight.Filter{}, "[a b c]"},
		{flight.Filter{Name: "web"}, "[a c]"},
		{flight.Filter{Namespace: "red"}, "[]"},
		{flight.Filter{Container: "0123456789b"}, "[b]"},
		{flight.Filter{Call: "c"}, "[c]"},
		{flight.Filter{Failed: true}, "[b]"},
		{flight.Filter{Verb: "DEL"}, "[]"},
		{flight.Filter{Last: 2}, "[b c]"},
	} {
		if got := fmt.Sprint(ids(r.Traces(test.filter))); got != test.want {
			t.Errorf("%+v: %s, want %s", test.filter, got, test.want)
		}
	}
}

func TestRunningCallIsSeen(t *testing.T) {
	r := flight.New(flight.Options{Log: quiet})
	f := r.Begin(cni.Call{ID: "now", Verb: "ADD"})
	f.Step(cni.StepQueue, nil, time.Now(), nil)
	got := r.Traces(flight.Filter{})
	if len(got) != 1 || !got[0].Running || got[0].Took <= 0 || len(got[0].Steps) != 1 {
		t.Errorf("traces are %+v", got)
	}
	f.End(cni.PodRef{}, nil)
	if got := r.Traces(flight.Filter{}); len(got) != 1 || got[0].Running {
		t.Errorf("after the end: %+v", got)
	}
}

// TestFailuresSurviveARestart also wants a file of a megabyte at most.
func TestFailuresSurviveARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state", "failures.json")
	first := flight.New(flight.Options{File: path, Log: quiet})
	run(t, first, func() {
		call(first, "good", "web", nil)
		call(first, "bad", "db", errors.New("no"))
	})
	second := flight.New(flight.Options{File: path, Log: quiet})
	got := second.Traces(flight.Filter{})
	if len(got) != 1 || got[0].Call != "bad" || got[0].Error != "no" || got[0].Steps[0].Interface != "net1" {
		t.Fatalf("after a restart: %+v", got)
	}
	run(t, second, func() {
		for i := range 1000 {
			call(second, fmt.Sprint(i), "web", fmt.Errorf("%d %s", i, strings.Repeat("x", 10_000)))
		}
	})
	info, err := os.Stat(path)
	if err != nil || info.Size() > 1<<20 {
		t.Errorf("file: %v, %v", info, err)
	}
}

// run has the recorder write its file while f runs, and after it.
func run(t *testing.T, r *flight.Recorder, f func()) {
	t.Helper()
	f()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestUnreadableFileIsNoReasonNotToStart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "failures.json")
	if err := os.WriteFile(path, []byte(`{"failures":[null,{"call":"x"`), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	r := flight.New(flight.Options{File: path, Log: slog.New(slog.NewTextHandler(&out, nil))})
	if len(r.Traces(flight.Filter{})) != 0 || !strings.Contains(out.String(), path) {
		t.Errorf("traces %v, log %q", r.Traces(flight.Filter{}), out.String())
	}
	run(t, r, func() { call(r, "bad", "db", errors.New("no")) })
	if got := flight.New(flight.Options{File: path, Log: quiet}).Traces(flight.Filter{}); len(got) != 1 {
		t.Errorf("the next failure did not replace the file: %v", got)
	}
}

func TestLogLinesOfACallHaveItsID(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(flight.Handler(slog.NewJSONHandler(&out, nil))).With("pod", "blue/web")
	log.InfoContext(cni.WithCallID(context.Background(), "c1-abc"), "macvlan made")
	log.Info("of no call")
	lines := strings.Split(out.String(), "\n")
	if !strings.Contains(lines[0], `"call":"c1-abc"`) || !strings.Contains(lines[0], `"pod":"blue/web"`) || strings.Contains(lines[1], "call\":") {
		t.Errorf("lines are %s", out.String())
	}
}

// BenchmarkRecord is what a recorder costs an ADD of three networks: beginning,
// the nineteen steps of TestFlightOfAPod, and the end.
func BenchmarkRecord(b *testing.B) {
	r := flight.New(flight.Options{Log: quiet})
	a := &cni.Attachment{Network: "blue/storage", IfName: "net1", Kind: cni.KindMacvlan}
	pod := cni.PodRef{Namespace: "blue", Name: "web", UID: "d4f1"}
	b.ReportAllocs()
	for b.Loop() {
		f := r.Begin(cni.Call{ID: "0123abcd-xyz", Verb: "ADD", Container: "0123abcd", IfName: "eth0", Pod: pod})
		for range 19 {
			f.Step(cni.StepAttach, a, time.Now(), nil)
		}
		f.End(pod, nil)
	}
}
