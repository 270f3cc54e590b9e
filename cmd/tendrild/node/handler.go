package node

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/cni/rpc"
)

// handler answers the shim: it translates between the wire and the engine.
type handler struct {
	engine *cni.Engine
	// dirs are where plugins are looked up before CNI_PATH; nil for nowhere.
	dirs   func() []string
	counts *counts
	log    *slog.Logger
}

// Handle implements rpc.Handler.
func (h handler) Handle(ctx context.Context, call *rpc.Call) rpc.Reply {
	start := time.Now()
	end := h.counts.begin(call.Command)
	ctx = cni.WithCallID(ctx, call.ID)
	log := h.log.With("command", call.Command, "container", call.ContainerID, "ifname", call.IfName)
	out, err := h.serve(ctx, call)
	if err != nil {
		log.ErrorContext(ctx, "call refused", "args", call.Args, "took", time.Since(start), "error", err)
		wire := cni.Wire(err)
		end(wire.Code)
		return refuse(wire, confVersion(call.StdinData), call.ID)
	}
	end(0)
	log.DebugContext(ctx, "call served", "took", time.Since(start))
	return rpc.Reply{Stdout: out}
}

func (h handler) serve(ctx context.Context, call *rpc.Call) ([]byte, error) {
	req := cni.Request{
		ContainerID: call.ContainerID, IfName: call.IfName, NetnsPath: call.NetnsPath, Netns: call.Netns,
		Args: netconf.Args(call.Args), Path: call.Path, Config: call.StdinData, Run: runner(call, h.dirs),
	}
	return h.command(ctx, call.Command, req)
}

// command has the engine serve one verb.
func (h handler) command(ctx context.Context, command string, req cni.Request) ([]byte, error) {
	switch command {
	case "ADD":
		return h.add(ctx, req)
	case "DEL":
		return nil, h.engine.Del(ctx, req)
	case "CHECK":
		return nil, h.engine.Check(ctx, req)
	case "STATUS":
		return nil, h.engine.Available(ctx, req)
	case "GC":
		return nil, h.engine.GC(ctx, req)
	}
	return nil, &types.Error{Code: types.ErrInvalidEnvironmentVariables,
		Msg: fmt.Sprintf("CNI_COMMAND %q is not allowed; allowed: ADD, DEL, CHECK, STATUS, GC, VERSION", command)}
}

// attach has the engine serve an ADD.
func (h handler) attach(ctx context.Context, req cni.Request) (*current.Result, error) {
	if req.Netns == nil {
		return nil, &types.Error{Code: types.ErrInvalidEnvironmentVariables,
			Msg: fmt.Sprintf("CNI_NETNS %q is not allowed; allowed: the path of a network namespace that exists", req.NetnsPath)}
	}
	return h.engine.Add(ctx, req)
}

// add is attach with the answer in the version that the runtime wants.
func (h handler) add(ctx context.Context, req cni.Request) ([]byte, error) {
	res, err := h.attach(ctx, req)
	if err != nil {
		return nil, err
	}
	converted, err := res.GetAsVersion(confVersion(req.Config))
	if err != nil {
		return nil, &types.Error{Code: types.ErrIncompatibleCNIVersion, Msg: err.Error()}
	}
	return json.Marshal(converted)
}

// runner has the shim run plugins for this call.
func runner(call *rpc.Call, dirs func() []string) cni.Runner {
	return func(ctx context.Context, plugin string, stdin []byte, env []string) ([]byte, error) {
		var first []string
		if dirs != nil {
			first = dirs()
		}
		res, err := call.Exec(ctx, rpc.ExecRequest{Plugin: plugin, Dirs: first, Stdin: stdin, Env: env, TimeoutMillis: millis(ctx)})
		if err != nil {
			return nil, err
		}
		return res.Stdout, outcome(plugin, res)
	}
}

// outcome turns a plugin's end into an error, with the error object that the
// plugin printed where it did (CNI specification, section "Error").
func outcome(plugin string, res rpc.ExecResult) error {
	if res.NotFound {
		return &cni.NoPlugin{Plugin: plugin, Why: res.Error}
	}
	if res.Error != "" {
		return fmt.Errorf("run plugin %s: %s", plugin, res.Error)
	}
	if res.ExitCode == 0 {
		return nil
	}
	e := &types.Error{}
	if json.Unmarshal(res.Stdout, e) == nil && e.Msg != "" {
		return e
	}
	return fmt.Errorf("plugin %s ended with code %d and no error object: %s%s", plugin, res.ExitCode,
		strings.TrimSpace(string(res.Stdout)), strings.TrimSpace(string(res.Stderr)))
}

func millis(ctx context.Context) int64 {
	deadline, ok := ctx.Deadline()
	if !ok {
		return 0
	}
	return max(time.Until(deadline).Milliseconds(), 1)
}

// refuse makes the error object that the shim prints. Its details end with the
// call's id: the runtime puts them into its event on the pod.
func refuse(typed *types.Error, cniVersion, id string) rpc.Reply {
	details := "call " + id
	if typed.Details != "" {
		details = typed.Details + "; " + details
	}
	out, merr := json.Marshal(struct {
		CNIVersion string `json:"cniVersion"`
		Code       uint   `json:"code"`
		Msg        string `json:"msg"`
		Details    string `json:"details,omitempty"`
	}{cniVersion, typed.Code, typed.Msg, details})
	if merr != nil {
		out = []byte(`{"code":999,"msg":"the error could not be encoded"}`)
	}
	return rpc.Reply{Stdout: out, ExitCode: 1}
}

// confVersion is the version in which the runtime wants its answer.
func confVersion(conf []byte) string {
	var v version.ConfigDecoder
	got, err := v.Decode(conf)
	if err != nil || got == "" {
		return "0.1.0"
	}
	return got
}
