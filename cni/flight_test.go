package cni_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/flight"
)

// recorded is the standard world with a recorder.
func recorded(t *testing.T) (*world, *cni.Engine, *flight.Recorder) {
	w := standard(t)
	e := w.engine()
	rec := flight.New(flight.Options{Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		// What the world has of the pod's interfaces at that moment.
		Look: func(*os.File) *flight.Netns { return &flight.Netns{Addresses: strings.Split(w.String(), "\n")} }})
	e.Flights = rec
	return w, e, rec
}

func steps(t flight.Trace) (out []string) {
	for _, s := range t.Steps {
		out = append(out, strings.TrimSpace(s.Name+" "+s.Interface+" "+s.Error))
	}
	return out
}

func TestFlightOfAPod(t *testing.T) {
	_, e, rec := recorded(t)
	ctx := cni.WithCallID(context.Background(), "c1-abc")
	if _, err := e.Add(ctx, request("c1")); err != nil {
		t.Fatal(err)
	}
	if err := e.Del(context.Background(), request("c1")); err != nil {
		t.Fatal(err)
	}
	traces := rec.Traces(flight.Filter{Namespace: "blue", Name: "p"})
	if len(traces) != 2 {
		t.Fatalf("traces = %+v, want ADD and DEL", traces)
	}
	add, del := traces[0], traces[1]
	if add.Call != "c1-abc" || add.Verb != "ADD" || add.Pod.UID != "u1" || add.Error != "" || add.Running || add.Took <= 0 {
		t.Errorf("ADD is %+v", add)
	}
	want := []string{"queue", "pod", "definitions", "devices", "plan", "prior net1", "prior store0", "prior net3",
		"reserve eth0", "reserve net1", "reserve store0", "reserve net3", "intent",
		"attach eth0", "attach net1", "attach store0", "attach net3", "settle", "done"}
	if d := cmp.Diff(want, steps(add)); d != "" {
		t.Errorf("steps of ADD: %s", d)
	}
	if d := cmp.Diff([]string{"queue", "detach net3", "detach store0", "detach net1", "detach eth0", "forget"}, steps(del)); d != "" {
		t.Errorf("steps of DEL: %s", d)
	}
	if del.Verb != "DEL" || !strings.HasPrefix(del.Call, "del-") {
		t.Errorf("a DEL without an id is %+v", del)
	}
}

// TestFlightOfAFailure wants the step that failed, and the pod as it was before
// the undo.
func TestFlightOfAFailure(t *testing.T) {
	w, e, rec := recorded(t)
	w.fail["attach store0"] = errors.New("kernel says no")
	_, err := e.Add(cni.WithCallID(context.Background(), "c1-abc"), request("c1"))
	if err == nil {
		t.Fatal("no error")
	}
	failed := rec.Traces(flight.Filter{Failed: true, Call: "c1-abc"})
	if len(failed) != 1 {
		t.Fatalf("traces = %+v", failed)
	}
	got := failed[0]
	if !slices.Contains(steps(got), "attach store0 kernel says no") || !slices.Contains(steps(got), "detach net1") || got.Error != err.Error() {
		t.Errorf("trace is %+v", got)
	}
	if got.Netns == nil || !slices.Contains(got.Netns.Addresses, "c1/net1: sriov 0000:01:10.0") {
		t.Errorf("namespace is %+v, want it as it was before the undo", got.Netns)
	}
	if left := w.String(); left != "" {
		t.Errorf("left over: %s", left)
	}
}

// TestFlightOfWorkThatWaitsForARuntime: what only needs a plugin is no failure.
func TestFlightOfWorkThatWaitsForARuntime(t *testing.T) {
	_, e, rec := recorded(t)
	if _, err := e.Add(context.Background(), request("c1")); err != nil {
		t.Fatal(err)
	}
	r := request("c1")
	r.Run = nil
	if err := e.Redeem(context.Background(), r); !cni.NeedsRuntime(err) {
		t.Fatalf("error = %v, want that it needs a runtime", err)
	}
	if failed := rec.Traces(flight.Filter{Failed: true}); len(failed) > 0 {
		t.Errorf("failures: %+v", failed)
	}
}

// TestRefusedCarriesTheCall: the event's writer can tell which call it is about,
// and the text stays the same for every try.
func TestRefusedCarriesTheCall(t *testing.T) {
	w, e, _ := recorded(t)
	var got error
	e.Report = reportFunc{w, func(err error) { got = err }}
	w.fail["attach net1"] = errors.New("kernel says no")
	_, err := e.Add(cni.WithCallID(context.Background(), "c1-abc"), request("c1"))
	var in *cni.CallError
	if !errors.As(got, &in) || in.ID != "c1-abc" || got.Error() != err.Error() {
		t.Errorf("reported %v, want %v of call c1-abc", got, err)
	}
}

type reportFunc struct {
	cni.Reporter
	refused func(error)
}

func (r reportFunc) Refused(_ cni.PodRef, err error) { r.refused(err) }
