package rpc

import (
	"strconv"
	"time"
)

// Version is the protocol's version, a byte of every frame. Both ends of a
// conversation have the same one or do not speak: the shim and the daemon are
// installed together, and an upgrade replaces the shim first by rename.
const Version = 1

// Limits of one conversation, in bytes.
const (
	// MaxFrame bounds a frame's body.
	MaxFrame = 8 << 20
	// MaxOutput bounds what a plugin may write to its standard output; base64
	// makes a third more of it, which still fits a frame.
	MaxOutput = 4 << 20
	// maxStderr is how much of a plugin's standard error is kept: its beginning.
	maxStderr = 64 << 10
)

// Request is one CNI call as the shim received it (CNI specification 1.1,
// section 2, "Parameters").
type Request struct {
	// ID names the call in the logs of both ends.
	ID string `json:"id"`
	// Command is CNI_COMMAND.
	Command     string `json:"command"`
	ContainerID string `json:"containerID,omitempty"`
	IfName      string `json:"ifName,omitempty"`
	// NetnsPath is CNI_NETNS, as the runtime spelled it.
	NetnsPath string `json:"netnsPath,omitempty"`
	// Args is CNI_ARGS, Path is CNI_PATH.
	Args string `json:"args,omitempty"`
	Path string `json:"path,omitempty"`
	// StdinData is the network configuration.
	StdinData []byte `json:"stdinData,omitempty"`
	// Env has the remaining CNI_ variables, by name.
	Env map[string]string `json:"env,omitempty"`
	// TimeoutMillis is how long the shim waits for the reply from the moment of
	// sending; Client.Call fills it in. A clock is not part of the protocol.
	TimeoutMillis int64 `json:"timeoutMillis"`
}

// Reply ends a call.
type Reply struct {
	// Stdout is what the shim prints: a CNI result, an error object, or nothing.
	Stdout []byte `json:"stdout,omitempty"`
	// ExitCode is the shim's exit code, 0..255.
	ExitCode int `json:"exitCode"`
}

// ExecRequest asks the shim to run one executable.
type ExecRequest struct {
	// Plugin is a file name, looked up in Dirs and then in the shim's own
	// CNI_PATH, or an absolute path that lies directly in one of these
	// directories. Anything else is not run: the name comes from a network
	// definition, and its author must not be able to leave these directories.
	Plugin string   `json:"plugin"`
	Dirs   []string `json:"dirs,omitempty"`
	// Env is added to the shim's environment without its CNI_ variables.
	// CNI_PATH is always what Plugin was looked up in.
	Env   []string `json:"env,omitempty"`
	Stdin []byte   `json:"stdin,omitempty"`
	// TimeoutMillis bounds the run; 0 leaves it to the call's own deadline.
	TimeoutMillis int64 `json:"timeoutMillis,omitempty"`
}

// ExecResult is how a run ended.
type ExecResult struct {
	Stdout []byte `json:"stdout,omitempty"`
	// Stderr is the first 64 KiB of what the plugin wrote there.
	Stderr []byte `json:"stderr,omitempty"`
	// ExitCode is the plugin's own; -1 when Error is set.
	ExitCode int `json:"exitCode"`
	// Error says why there is no exit code: not found, not started, killed.
	Error string `json:"error,omitempty"`
	// NotFound says that it is the first of these: nothing was run.
	NotFound bool `json:"notFound,omitempty"`
}

// fault is the body of a frame that ends a conversation with an error.
type fault struct {
	Text string `json:"text"`
}

// VersionError says that the other end speaks another version.
type VersionError struct {
	Ours, Theirs int
}

// Error implements error.
func (e *VersionError) Error() string {
	return "protocol version " + strconv.Itoa(e.Theirs) + " is not supported; allowed: " + strconv.Itoa(e.Ours) +
		" (shim and daemon are of different releases)"
}

// Refused is an answer of the daemon that the conversation cannot be had.
type Refused struct {
	// Text is the daemon's own reason.
	Text string
}

// Error implements error.
func (e *Refused) Error() string { return "refused by the daemon: " + e.Text }

func millis(n int64) time.Duration { return time.Duration(n) * time.Millisecond }
