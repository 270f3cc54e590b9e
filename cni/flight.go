package cni

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/tendril-cni/tendril/ipam"
)

// Flights records how calls go, for people who ask later. What it does has no
// effect on a call, and its methods do not wait for anything.
type Flights interface {
	// Begin notes that a call begins.
	Begin(c Call) Flight
}

// Flight is the record of one call, used by the call's goroutine.
type Flight interface {
	// Step notes that a step, begun at start, ended now with err. a is the
	// attachment that it was about, nil for the whole call; it is not kept.
	Step(name string, a *Attachment, start time.Time, err error)
	// Failed is told, before anything is undone, that the call failed, and in which
	// network namespace; nil when there is none. The first time counts.
	Failed(ns *os.File)
	// End notes that the call ended with err. The zero pod leaves what Begin said.
	End(pod PodRef, err error)
}

// Call is what is known of a call when it begins.
type Call struct {
	// ID is that of CallID.
	ID string
	// Verb is a CNI command or one of the Verb constants.
	Verb, Container, IfName string
	Pod                     PodRef
}

// Verbs of calls that no runtime made: networks of a running pod are changed, a
// lost interface is made anew, and what an earlier daemon left is undone.
const (
	VerbPlug    = "PLUG"
	VerbRepair  = "REPAIR"
	VerbRecover = "RECOVER"
)

// Names of steps, as traces and metrics have them.
const (
	// StepQueue is the wait for an earlier call on the same container.
	StepQueue = "queue"
	// StepClear undoes what an ADD of the same name left.
	StepClear = "clear"
	// StepAwait is the wait for the default network.
	StepAwait = "await"
	// StepPod, StepDefinitions and StepDevices ask the node's cache and the
	// kubelet.
	StepPod         = "pod"
	StepDefinitions = "definitions"
	StepDevices     = "devices"
	StepPlan        = "plan"
	// StepPrior reads what one attachment will change.
	StepPrior = "prior"
	// StepReserve gives one attachment its device and its addresses; those that are
	// in files come after StepIntent.
	StepReserve = "reserve"
	// StepClaim gets slots of the cluster's addresses that the node lacks; StepIntent
	// is done again after it.
	StepClaim = "claim"
	// StepIntent is the transaction of the intent, reservations included, and
	// StepDone that of the completion.
	StepIntent = "intent"
	// StepProbe asks whether addresses in doubt are in use.
	StepProbe  = "probe"
	StepAttach = "attach"
	StepSettle = "settle"
	StepDone   = "done"
	// StepUndo is what becomes of a call that failed.
	StepUndo   = "undo"
	StepSweep  = "sweep"
	StepDetach = "detach"
	// StepForget is the transaction that drops records.
	StepForget = "forget"
	StepCheck  = "check"
)

type callIDKey struct{}

// WithCallID returns ctx for the call with that id: the shim's, or one of
// NewCallID. It is what the log, the trace, the error and the event of one call
// have in common.
func WithCallID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, callIDKey{}, id)
}

// CallID returns the id of the call that ctx belongs to, empty for none.
func CallID(ctx context.Context) string {
	id, _ := ctx.Value(callIDKey{}).(string)
	return id
}

// NewCallID makes the id of a call that no shim made: its verb in lower case and
// six random characters.
func NewCallID(verb string) string {
	const six = 36 * 36 * 36 * 36 * 36 * 36
	id := strconv.FormatUint(six+rand.Uint64N(six), 36)
	return strings.ToLower(verb) + "-" + id[1:]
}

// CallError is an error with the id of the call that it ended. Its text is that
// of Err: whoever prints it decides where the id goes.
type CallError struct {
	ID  string
	Err error
}

// Error implements error.
func (e *CallError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *CallError) Unwrap() error { return e.Err }

// inCall gives err the id of ctx's call.
func inCall(ctx context.Context, err error) error {
	if id := CallID(ctx); id != "" && err != nil {
		return &CallError{ID: id, Err: err}
	}
	return err
}

// depart begins the record of a call; landed ends it.
func (e *Engine) depart(ctx context.Context, r Request, verb string) (context.Context, Request) {
	return e.departFor(ctx, r, verb, r.pod())
}

func (e *Engine) departFor(ctx context.Context, r Request, verb string, pod PodRef) (context.Context, Request) {
	if CallID(ctx) == "" {
		ctx = WithCallID(ctx, NewCallID(verb))
	}
	if e.Flights != nil {
		r.flight = e.Flights.Begin(Call{ID: CallID(ctx), Verb: verb, Container: r.ContainerID, IfName: r.IfName, Pod: pod})
	}
	return ctx, r
}

// landed ends the record and returns err.
func (r Request) landed(pod PodRef, err error) error {
	if r.flight != nil {
		r.flight.End(pod, failure(err))
	}
	return err
}

// step notes a step that began at start, and returns err.
func (r Request) step(name string, a *Attachment, start time.Time, err error) error {
	if r.flight != nil {
		r.flight.Step(name, a, start, failure(err))
	}
	return err
}

// failure is err, or nil for what is none: work that waits for a call of the
// runtime, slots that are claimed next.
func failure(err error) error {
	var need *ipam.NeedSlots
	if errors.Is(err, errNoRunner) || errors.As(err, &need) {
		return nil
	}
	return err
}

// failed has the namespace looked at before it is changed.
func (r Request) failed(ns *os.File) {
	if r.flight != nil {
		r.flight.Failed(ns)
	}
}
