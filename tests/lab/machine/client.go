package machine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"

	"github.com/tendril-cni/tendril/tests/lab/machine/agent"
)

// A Client talks to the agent of one machine.
type Client struct {
	http *http.Client
	dial func(ctx context.Context) (net.Conn, error)
}

// NewClient returns a client whose connections come from dial.
func NewClient(dial func(ctx context.Context) (net.Conn, error)) *Client {
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
	}
	return &Client{http: &http.Client{Transport: transport}, dial: dial}
}

// keepAlive finds out within seconds that a machine was cut off while it was
// asked for something.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 5 * time.Second, Count: 6}

// dialAgent connects to a machine of the lab that this process is in.
func dialAgent(index int) func(ctx context.Context) (net.Conn, error) {
	d := &net.Dialer{KeepAliveConfig: keepAlive, Timeout: 10 * time.Second}
	return func(ctx context.Context) (net.Conn, error) { return d.DialContext(ctx, "tcp", AgentAddress(index)) }
}

// Run runs a bash script in the machine and copies what it prints to out. The
// error is about the machine; what the script did is its exit code.
func (c *Client) Run(ctx context.Context, script string, out io.Writer) (exitCode int, err error) {
	return c.Exec(ctx, agent.Exec{Args: []string{"/bin/bash", "-c", script}}, out, out)
}

// Exec runs one process in the machine. It is killed, with its process group,
// when ctx ends.
func (c *Client) Exec(ctx context.Context, e agent.Exec, stdout, stderr io.Writer) (exitCode int, err error) {
	body, err := json.Marshal(e)
	if err != nil {
		return 0, err
	}
	reply, err := c.do(ctx, http.MethodPost, "/exec", nil, bytes.NewReader(body))
	if err != nil {
		return 0, fmt.Errorf("exec in machine: %w", err)
	}
	defer func() { _ = reply.Body.Close() }()
	if err := agent.CopyFrames(reply.Body, stdout, stderr); err != nil {
		return 0, fmt.Errorf("exec in machine: %w", errors.Join(err, ctx.Err()))
	}
	if problem := reply.Trailer.Get(agent.TrailerError); problem != "" {
		return 0, fmt.Errorf("exec in machine: %s", problem)
	}
	code, err := strconv.Atoi(reply.Trailer.Get(agent.TrailerExit))
	if err != nil {
		return 0, errors.New("exec in machine: connection ended without an exit code")
	}
	return code, nil
}

// Put writes a file in the machine, whole or not at all, making its directory.
func (c *Client) Put(ctx context.Context, path string, mode fs.FileMode, content io.Reader) error {
	query := url.Values{"path": {path}, "mode": {strconv.FormatUint(uint64(mode.Perm()), 8)}}
	reply, err := c.do(ctx, http.MethodPut, "/file", query, content)
	if err != nil {
		return fmt.Errorf("put %s: %w", path, err)
	}
	return reply.Body.Close()
}

// Get reads a file in the machine. The error of a file that is not there is
// [os.ErrNotExist].
func (c *Client) Get(ctx context.Context, path string) ([]byte, error) {
	reply, err := c.do(ctx, http.MethodGet, "/file", url.Values{"path": {path}}, nil)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", path, err)
	}
	defer func() { _ = reply.Body.Close() }()
	data, err := io.ReadAll(reply.Body)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", path, err)
	}
	return data, nil
}

// Status asks the agent how the machine's set-up went.
func (c *Client) Status(ctx context.Context) (agent.Status, error) {
	var s agent.Status
	reply, err := c.do(ctx, http.MethodGet, "/status", nil, nil)
	if err != nil {
		return s, fmt.Errorf("ask for status: %w", err)
	}
	defer func() { _ = reply.Body.Close() }()
	if err := json.NewDecoder(reply.Body).Decode(&s); err != nil {
		return s, fmt.Errorf("ask for status: %w", err)
	}
	return s, nil
}

// do sends one request and turns refusals into errors.
func (c *Client) do(ctx context.Context, method, path string, query url.Values, body io.Reader) (*http.Response, error) {
	target := url.URL{Scheme: "http", Host: "machine", Path: path, RawQuery: query.Encode()}
	request, err := http.NewRequestWithContext(ctx, method, target.String(), body)
	if err != nil {
		return nil, err
	}
	reply, err := c.http.Do(request)
	if err != nil {
		return nil, err
	}
	if reply.StatusCode == http.StatusOK {
		return reply, nil
	}
	defer func() { _ = reply.Body.Close() }()
	message, _ := io.ReadAll(io.LimitReader(reply.Body, 4096))
	err = errors.New(string(bytes.TrimSpace(message)))
	if reply.StatusCode == http.StatusNotFound {
		err = fmt.Errorf("%w: %w", os.ErrNotExist, err)
	}
	return nil, err
}

// AgentAddress is where the agent of machine index listens, inside the lab.
func AgentAddress(index int) string {
	return net.JoinHostPort(Addr(index).String(), strconv.Itoa(agent.Port))
}
