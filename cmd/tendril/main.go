package main

import (
	"context"
	"encoding/json"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/tendril-cni/tendril/cni/rpc"
)

// version is set by the linker.
var version = "dev"

func main() {
	// A process of a few milliseconds: it ends before a collection would pay,
	// and on a machine with many cores idle threads cost more than they give.
	// The limit keeps a large exchange of plugin output in bounds all the same.
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(64 << 20)
	runtime.GOMAXPROCS(2)
	os.Exit(run(os.Stdin, os.Stdout, os.Stderr))
}

func run(stdin io.Reader, stdout, stderr io.Writer) int {
	command := os.Getenv("CNI_COMMAND")
	switch command {
	case "":
		_, _ = io.WriteString(stderr, "CNI plugin tendril "+version+"\nCNI protocol versions supported: "+strings.Join(supported, ", ")+"\n")
		return 0
	case "VERSION":
		return print(stdout, versionInfo{CNIVersion: newest, SupportedVersions: supported}, 0)
	}
	config := config{CNIVersion: newest}
	reply, err := serve(command, stdin, &config)
	if err != nil {
		err.CNIVersion = config.CNIVersion
		return print(stdout, err, 1)
	}
	if _, err := stdout.Write(reply.Stdout); err != nil {
		return 1
	}
	return reply.ExitCode
}

// serve checks the call and has the daemon answer it. c is filled in as far as
// the configuration can be read.
func serve(command string, stdin io.Reader, c *config) (rpc.Reply, *failure) {
	request, bad := fromEnvironment(command)
	if bad != nil {
		return rpc.Reply{}, bad
	}
	data, err := io.ReadAll(stdin)
	if err != nil {
		return rpc.Reply{}, &failure{Code: codeIO, Msg: "read the network configuration: " + err.Error()}
	}
	request.StdinData = data
	if bad := c.parse(data); bad != nil {
		return rpc.Reply{}, bad
	}
	if bad := c.allows(command); bad != nil {
		return rpc.Reply{}, bad
	}
	netns, bad := openNetns(command, request.NetnsPath)
	if bad != nil {
		return rpc.Reply{}, bad
	}
	return call(request, netns, c)
}

func call(request rpc.Request, netns *os.File, c *config) (rpc.Reply, *failure) {
	ctx, cancel := context.WithTimeout(context.Background(), seconds(c.TimeoutSeconds))
	defer cancel()
	client := rpc.Client{
		Socket:   c.Socket,
		Patience: c.patience(request.Command),
		// A second ADD of one interface is an error, all else may be said twice.
		Repeat: request.Command != "ADD",
	}
	reply, err := client.Call(ctx, request, netns)
	if err != nil {
		reply, err = spooled(ctx, request, netns, c, err)
	}
	if err == nil {
		return reply, nil
	}
	return rpc.Reply{}, unanswered(request, err, c)
}

// unanswered is the error for a call that the daemon did not answer. The runtime
// shows msg to people, so it says where to look.
func unanswered(request rpc.Request, err error, c *config) *failure {
	f := &failure{
		Code:    codeTryLater,
		Msg:     "tendrild did not answer " + request.Command + " on " + c.Socket + ": try again later",
		Details: err.Error() + " (call " + request.ID + ", connectSeconds " + text(c.ConnectSeconds) + ", timeoutSeconds " + text(c.TimeoutSeconds) + ")",
	}
	if request.Command == "STATUS" {
		f.Code = codeNotAvailable
	}
	return f
}

// fromEnvironment reads the CNI_ variables (CNI specification 1.1, section 2).
func fromEnvironment(command string) (rpc.Request, *failure) {
	r := rpc.Request{
		Command:     command,
		ContainerID: os.Getenv("CNI_CONTAINERID"),
		IfName:      os.Getenv("CNI_IFNAME"),
		NetnsPath:   os.Getenv("CNI_NETNS"),
		Args:        os.Getenv("CNI_ARGS"),
		Path:        os.Getenv("CNI_PATH"),
	}
	for _, kv := range os.Environ() {
		name, value, _ := strings.Cut(kv, "=")
		if strings.HasPrefix(name, "CNI_") && !named[name] {
			if r.Env == nil {
				r.Env = map[string]string{}
			}
			r.Env[name] = value
		}
	}
	r.ID = callID(r.ContainerID)
	return r, checkEnvironment(r)
}

// callID names the call for people: in the daemon's log, its traces, the error and
// the pod's event. It begins as the container's id does, by which runtimes name
// sandboxes, and ends with what tells the calls for one container apart.
func callID(container string) string {
	id := strconv.FormatUint(uint64(rand.Uint32()), 36)
	if container == "" {
		return id
	}
	return container[:min(len(container), 8)] + "-" + id
}

// named are the variables with a field of their own in the request.
var named = map[string]bool{
	"CNI_COMMAND": true, "CNI_CONTAINERID": true, "CNI_IFNAME": true, "CNI_NETNS": true, "CNI_ARGS": true, "CNI_PATH": true,
}

func print(w io.Writer, v any, code int) int {
	if err := json.NewEncoder(w).Encode(v); err != nil {
		return 1
	}
	return code
}
