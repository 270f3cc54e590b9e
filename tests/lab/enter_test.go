//go:build !cluster

package lab_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tendril-cni/tendril/tests/lab"
	"github.com/tendril-cni/tendril/tests/lab/machine"
)

// envPart makes the test binary play a part instead of running tests.
const envPart = "TENDRIL_TEST_PART"

func TestMain(m *testing.M) {
	lab.Init()
	if part := os.Getenv(envPart); part != "" && lab.Inside() {
		os.Exit(play(part))
	} else if part == "outside" {
		os.Exit(outside())
	}
	os.Exit(m.Run())
}

// play is what runs inside.
func play(part string) int {
	switch part {
	case "look":
		links, _ := net.Interfaces()
		var names []string
		for _, l := range links {
			names = append(names, l.Name)
		}
		run, _ := os.ReadDir("/run")
		fmt.Println(strings.Join(names, " "), len(run), os.Getppid())
		return 7
	case "sleep", "outside":
		fmt.Println("ready")
		time.Sleep(time.Minute)
	}
	return 0
}

// outside is a process that has a lab and is going to be killed.
func outside() int {
	cmd := lab.Command(context.Background())
	cmd.Stdout = os.Stdout
	return lab.Run(cmd)
}

// command runs this test binary in a lab.
func command(t *testing.T, part string) *exec.Cmd {
	t.Helper()
	t.Setenv(envPart, part)
	return lab.Command(t.Context())
}

func TestInsideIsAWorldOfItsOwn(t *testing.T) {
	cmd := command(t, "look")
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	if code := lab.Run(cmd); code != 7 {
		t.Errorf("exit code is %d, want 7", code)
	}
	if got, want := strings.TrimSpace(out.String()), "lo "+machine.Bridge+" 0 1"; got != want {
		t.Errorf("inside are %q, want %q", got, want)
	}
}

func TestSignalsArePassedOn(t *testing.T) {
	cmd := command(t, "sleep")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	wait, err := lab.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	awaitReady(t, bufio.NewReader(stdout))
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := wait(); !errors.As(err, &exit) || exit.ExitCode() != 128+int(syscall.SIGTERM) {
		t.Errorf("ended with %v, want the program's end by SIGTERM", err)
	}
}

func awaitReady(t *testing.T, r *bufio.Reader) {
	t.Helper()
	if line, err := r.ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("got %q, %v", line, err)
	}
}

// The pipe's end comes when every process that inherited it is gone.
func TestNothingOutlivesAKilledProcess(t *testing.T) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), envPart+"=outside")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	reader := bufio.NewReader(stdout)
	awaitReady(t, reader)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := reader.ReadByte()
		ended <- err
	}()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("a process in the lab outlives the one outside")
	}
	_ = cmd.Wait()
}

func TestGateLeadsInside(t *testing.T) {
	target, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = target.Close() }()
	go func() {
		conn, err := target.Accept()
		if err == nil {
			_, _ = fmt.Fprint(conn, "hello")
			_ = conn.Close()
		}
	}()
	socket := filepath.Join(t.TempDir(), "gate")
	gate, err := lab.OpenGate(socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- gate.Serve(ctx) }()

	conn, err := lab.Dial(ctx, socket, target.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	text, err := bufio.NewReader(conn).ReadString(0)
	if text != "hello" {
		t.Errorf("read %q, %v", text, err)
	}
	_ = conn.Close()
	if _, err := lab.Dial(ctx, socket, "127.0.0.1:1"); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("a closed port gives %v", err)
	}
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
}
