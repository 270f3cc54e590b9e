package rpc_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tendril-cni/tendril/cni/rpc"
)

// frame makes a frame byte by byte, as another implementation would.
func frame(version, kind byte, body string) string {
	n := binary.BigEndian.AppendUint32(nil, uint32(len(body)))
	return "Td" + string([]byte{version, kind}) + string(n) + body
}

const request = `{"command":"ADD","timeoutMillis":1000}`

func TestDaemonRefusesWhatIsNoRequest(t *testing.T) {
	socket := serve(t, echo)
	for name, tc := range map[string]struct{ send, want string }{
		"another protocol":  {"POST /cni HTTP/1.1\r\n", `frame starts with "POST"`},
		"another version":   {frame(9, 1, request), "protocol version 9 is not supported; allowed: 1"},
		"unknown kind":      {frame(1, 77, request), "frame kind 77 is not known; allowed: 1..6"},
		"kind out of place": {frame(1, 4, request), "frame is out of place"},
		"too long":          {"Td\x01\x01\xff\xff\xff\xff", "frame body of 4294967295 bytes is too long; allowed: 0..8388608"},
		"not JSON":          {frame(1, 1, "{"), "decode frame"},
		"no deadline":       {frame(1, 1, `{"command":"ADD"}`), "field timeoutMillis: value 0 is not allowed; allowed: 1..3600000"},
	} {
		t.Run(name, func(t *testing.T) {
			conn := connect(t, socket)
			if _, err := conn.Write([]byte(tc.send)); err != nil {
				t.Fatal(err)
			}
			answer, err := io.ReadAll(conn)
			if err != nil && !errors.Is(err, syscall.ECONNRESET) {
				t.Fatal(err)
			}
			if !strings.HasPrefix(string(answer), "Td\x01\x06") {
				t.Fatalf("answer %q, want a fault frame", answer)
			}
			if got := strings.ReplaceAll(string(answer), `\"`, `"`); !strings.Contains(got, tc.want) {
				t.Errorf("answer %q, want it to say %q", got, tc.want)
			}
		})
	}
}

func TestShimRefusesWhatIsNoAnswer(t *testing.T) {
	for name, tc := range map[string]struct{ send, want string }{
		"another protocol": {"HTTP/1.1 404 Not Found", `frame starts with "HTTP"`},
		"another version":  {frame(2, 5, "{}"), "protocol version 2 is not supported; allowed: 1"},
		"a request":        {frame(1, 1, "{}"), "frame is out of place"},
		"too long":         {"Td\x01\x05\x7f\xff\xff\xff", "is too long"},
		"cut off":          {frame(1, 5, `{"exitCode":0}`)[:12], "daemon went away"},
		"nothing":          {"", "daemon went away"},
		"a fault":          {frame(1, 6, `{"text":"not today"}`), "refused by the daemon: not today"},
	} {
		t.Run(name, func(t *testing.T) {
			socket := filepath.Join(shortDir(t), "s")
			ln, err := rpc.Listen(socket)
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			go func() {
				conn, err := ln.Accept()
				if err != nil {
					return
				}
				defer conn.Close()
				_, _ = conn.Read(make([]byte, 1<<16))
				_, _ = conn.Write([]byte(tc.send))
			}()
			_, err = rpc.Client{Socket: socket}.Call(deadline(t, patience), rpc.Request{Command: "ADD"}, nil)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want %q", err, tc.want)
			}
		})
	}
}

func TestShimSendsNoFrameThatIsTooLong(t *testing.T) {
	socket := serve(t, echo)
	_, err := rpc.Client{Socket: socket}.Call(deadline(t, patience), rpc.Request{StdinData: make([]byte, rpc.MaxFrame)}, nil)
	if err == nil || !strings.Contains(err.Error(), "is too long; allowed: 0..8388608") {
		t.Errorf("error %v", err)
	}
}

func TestSecondDescriptorIsRefused(t *testing.T) {
	socket := serve(t, echo)
	conn := connect(t, socket)
	rights := syscall.UnixRights(0, 0)
	if _, _, err := conn.WriteMsgUnix([]byte(frame(1, 1, request)), rights, nil); err != nil {
		t.Fatal(err)
	}
	answer, _ := io.ReadAll(conn)
	if !strings.Contains(string(answer), "allowed: 0..1") {
		t.Errorf("answer %q", answer)
	}
}

func TestInvariant10PeerOfAnotherUser(t *testing.T) {
	needRoot(t)
	var called atomic.Bool
	socket := serve(t, func(context.Context, *rpc.Call) rpc.Reply {
		called.Store(true)
		return rpc.Reply{}
	})
	// As if someone had opened the files up.
	for _, open := range []func() error{
		func() error { return os.Chmod(socket, 0o666) },
		func() error { return os.Chmod(filepath.Dir(socket), 0o755) },
		func() error { return os.Chmod(filepath.Dir(filepath.Dir(socket)), 0o755) },
	} {
		if err := open(); err != nil {
			t.Fatal(err)
		}
	}
	// The daemon's own user is heard, another one is not.
	for uid, want := range map[uint32]string{0: "error <nil>", 65534: "has uid 65534; allowed: 0"} {
		called.Store(false)
		_, out := play(t, "shim", uid, socket, "x")
		line, err := out.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(line, want) || called.Load() != (uid == 0) {
			t.Errorf("uid %d: %q, called %v; want %q", uid, line, called.Load(), want)
		}
	}
}

func TestListen(t *testing.T) {
	dir := filepath.Join(shortDir(t), "a", "run")
	socket := filepath.Join(dir, "tendril.sock")
	first, err := rpc.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]os.FileMode{dir: 0o700, socket: 0o600} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s: mode %o, want %o", path, info.Mode().Perm(), want)
		}
	}
	// A successor takes the name; the closing of the first one must not take it away.
	second, err := rpc.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	first.Close()
	connect(t, socket)
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("directory has %v, error %v; want the socket alone", entries, err)
	}
}

func TestListenRefusesDirectoryThatOthersMayWrite(t *testing.T) {
	dir := shortDir(t)
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	_, err := rpc.Listen(filepath.Join(dir, "tendril.sock"))
	if err == nil || !strings.Contains(err.Error(), "mode 0777 is not allowed") {
		t.Errorf("error %v", err)
	}
}

func connect(t *testing.T, socket string) *net.UnixConn {
	t.Helper()
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return conn
}
