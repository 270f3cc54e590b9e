package multussock_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/multussock"
	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/cni/rpc"
)

// said is what the server was asked to do.
type said struct {
	calls []string
	err   error
	ready error
}

func (s *said) call(_ context.Context, command string, r cni.Request) ([]byte, error) {
	s.calls = append(s.calls, strings.Join([]string{"cni", command, r.ContainerID, r.IfName, r.Args["K8S_POD_NAME"], r.Path, string(r.Config)}, " "))
	if command == "ADD" && s.err == nil {
		return []byte(`{"cniVersion":"1.0.0"}`), nil
	}
	return nil, s.err
}

func (s *said) delegate(_ context.Context, command string, r cni.Request, n netconf.Network, el netconf.Element) ([]byte, error) {
	text := strings.Join([]string{"delegate", command, r.ContainerID, r.IfName, n.Name, el.MAC, strings.Join(el.IPs, "+")}, " ")
	s.calls = append(s.calls, text)
	if r.Netns == nil && command == "ADD" {
		return nil, errors.New("no namespace")
	}
	return []byte(`{"cniVersion":"1.0.0"}`), s.err
}

// client talks to a server over a unix socket, as the Multus shim does.
func client(t *testing.T, s *said) *http.Client {
	t.Helper()
	dir, err := os.MkdirTemp("", "sock")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "multus.sock")
	ln, err := rpc.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	server := &multussock.Server{Call: s.call, Delegate: s.delegate, Ready: func(context.Context) error { return s.ready },
		Open: func(path string) (*os.File, error) {
			if path == "/gone" {
				return nil, fs.ErrNotExist
			}
			return os.Open(os.DevNull)
		}, Log: slog.New(slog.NewTextHandler(io.Discard, nil))}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}}
}

func post(t *testing.T, c *http.Client, path string, body any) (int, string) {
	t.Helper()
	data, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Post("http://dummy"+path, "application/json", bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	out, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, strings.TrimSpace(string(out))
}

func body(command, netns, config string) map[string]any {
	return map[string]any{"config": []byte(config), "env": map[string]string{
		"CNI_COMMAND": command, "CNI_CONTAINERID": "c1", "CNI_IFNAME": "net1", "CNI_NETNS": netns, "CNI_PATH": "/opt/cni/bin",
		"CNI_ARGS": "IgnoreUnknown=true;K8S_POD_NAMESPACE=blue;K8S_POD_NAME=p", "HOME": "/"},
		"interfaceAttributes": map[string]any{"ips": []string{"192.0.2.9"}, "mac": "0A:00:00:00:00:01"}}
}

const macvlan = `{"cniVersion":"1.0.0","name":"storage","type":"macvlan"}`

func TestCallsAreAnsweredAsMultusDoes(t *testing.T) {
	s := &said{}
	c := client(t, s)
	for _, step := range []struct {
		path, command, netns, want string
		code                       int
	}{
		{"/cni", "ADD", "/ns", `{"Result":{"cniVersion":"1.0.0"}}`, 200},
		{"/cni", "DEL", "/gone", "", 200},
		{"/cni", "STATUS", "", "", 200},
		{"/delegate", "ADD", "/ns", `{"Result":{"cniVersion":"1.0.0"}}`, 200},
		{"/delegate", "DEL", "/gone", `{"Result":{"cniVersion":"1.0.0"}}`, 200},
		{"/cni", "ADD", "/gone", "file does not exist", 400},
		{"/elsewhere", "ADD", "/ns", "404 page not found", 404},
	} {
		if code, out := post(t, c, step.path, body(step.command, step.netns, macvlan)); code != step.code || out != step.want {
			t.Errorf("%s %s: %d %q, want %d %q", step.path, step.command, code, out, step.code, step.want)
		}
	}
	want := []string{
		"cni ADD c1 net1 p /opt/cni/bin " + macvlan, "cni DEL c1 net1 p /opt/cni/bin " + macvlan, "cni STATUS c1 net1 p /opt/cni/bin " + macvlan,
		"delegate ADD c1 net1 storage 0a:00:00:00:00:01 192.0.2.9", "delegate DEL c1 net1 storage 0a:00:00:00:00:01 192.0.2.9",
	}
	if d := cmp.Diff(want, s.calls); d != "" {
		t.Error(d)
	}
}

func TestErrorsAreCNIErrorObjects(t *testing.T) {
	s := &said{err: &types.Error{Code: 11, Msg: "try again later"}}
	c := client(t, s)
	code, out := post(t, c, "/cni", body("ADD", "/ns", macvlan))
	var e types.Error
	if err := json.Unmarshal([]byte(out), &e); code != 400 || err != nil || e.Code != 11 {
		t.Errorf("answer %d %q", code, out)
	}
	for _, b := range []any{"text", body("EAT", "/ns", macvlan), body("", "", ""), map[string]any{"env": map[string]string{"CNI_COMMAND": "ADD"}}} {
		if code, out := post(t, c, "/delegate", b); code != 400 || out == "" {
			t.Errorf("%v: %d %q, want 400 and why", b, code, out)
		}
	}
	if code, out := post(t, c, "/delegate", body("ADD", "/ns", `{"type":`)); code != 400 || !strings.Contains(out, "line 1") {
		t.Errorf("a broken configuration: %d %q", code, out)
	}
}

func TestHealthAndReadiness(t *testing.T) {
	s := &said{}
	c := client(t, s)
	for _, step := range []struct {
		ready        error
		health, read int
	}{{nil, 200, 200}, {errors.New("starting"), 200, 500}} {
		s.ready = step.ready
		for path, want := range map[string]int{"/healthz": step.health, "/readyz": step.read} {
			resp, err := c.Get("http://dummy" + path)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if code, _ := post(t, c, path, nil); resp.StatusCode != want || code != want {
				t.Errorf("%s: %d and %d, want %d", path, resp.StatusCode, code, want)
			}
		}
	}
}
