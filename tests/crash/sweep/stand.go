package sweep

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tendril-cni/tendril/cmd/tendrild/node"
	"github.com/tendril-cni/tendril/cni/journal"
	"github.com/tendril-cni/tendril/cni/netns/netnstest"
	"github.com/tendril-cni/tendril/cni/rpc"
	"github.com/tendril-cni/tendril/ipam"
)

// callTime bounds a CNI call, and the wait for a daemon to die.
const callTime = time.Minute

// Stand is one node under test, with one pod.
type Stand struct {
	T *testing.T
	// Dir has the directories of the node below it: run, state, net.d.
	Dir string
	// Pod is the pod's network namespace.
	Pod *os.File
	// Scene is what is played.
	Scene Scene
}

// Config is that of the stand's daemon, for what is done without it.
func (s *Stand) Config() node.Config { return s.Scene.config(s.Dir) }

// NewStand returns a stand on which scene can be played.
func NewStand(t *testing.T, scene Scene) *Stand {
	t.Helper()
	s := &Stand{T: t, Dir: t.TempDir(), Pod: netnstest.Pod(t), Scene: scene}
	data, err := json.Marshal(scene)
	if err != nil {
		t.Fatal(err)
	}
	s.Write("scene.json", string(data))
	s.Write("net.d/10-default.conflist", scene.Default)
	return s
}

// Write writes a file below Dir.
func (s *Stand) Write(name, text string) {
	s.T.Helper()
	path := filepath.Join(s.Dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		s.T.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		s.T.Fatal(err)
	}
}

// Victim is a running daemon.
type Victim struct {
	cmd *exec.Cmd
	out strings.Builder
}

// Start starts a daemon. It kills itself at a step of the journal, or before a
// kernel call; "" and -1 are never, 0 counts the calls.
func (s *Stand) Start(step string, call int) *Victim {
	s.T.Helper()
	v := &Victim{cmd: exec.Command("/proc/self/exe")}
	v.cmd.Env = append(os.Environ(), envStand+"="+s.Dir, envStep+"="+step)
	if call >= 0 {
		v.cmd.Env = append(v.cmd.Env, envCall+"="+strconv.Itoa(call))
	}
	v.cmd.Stdout, v.cmd.Stderr = &v.out, &v.out
	v.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := v.cmd.Start(); err != nil {
		s.T.Fatal(err)
	}
	s.T.Cleanup(func() { _ = v.cmd.Process.Kill() })
	return v
}

// Killed waits for the daemon to have killed itself. answer is what its last call
// said: it tells why a daemon never came to the point.
func (s *Stand) Killed(v *Victim, answer error) {
	s.T.Helper()
	late := time.AfterFunc(callTime, func() { _ = v.cmd.Process.Signal(syscall.SIGTERM) })
	defer late.Stop()
	err := v.cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		s.T.Fatalf("daemon did not die by SIGKILL: %v; its last answer: %v\n%s", err, answer, v.out.String())
	}
}

// Stop kills a daemon that still runs.
func (s *Stand) Stop(v *Victim) {
	_ = v.cmd.Process.Kill()
	_ = v.cmd.Wait()
}

// Call makes a CNI call as the shim does.
func (s *Stand) Call(command string) error {
	s.T.Helper()
	return s.call(s.Request(command), s.Pod)
}

// CallGone is Call for a pod whose namespace is gone.
func (s *Stand) CallGone(command string) error {
	s.T.Helper()
	r := s.Request(command)
	r.NetnsPath = filepath.Join(s.Dir, "gone")
	return s.call(r, nil)
}

// CallOf is Call for another container in the pod's namespace.
func (s *Stand) CallOf(command, container string) error {
	s.T.Helper()
	return s.CallIn(command, container, s.Pod)
}

// CallIn is Call for another container, in a namespace of its own.
func (s *Stand) CallIn(command, container string, pod *os.File) error {
	r := s.Request(command)
	r.ContainerID, r.NetnsPath = container, fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), pod.Fd())
	return s.call(r, pod)
}

func (s *Stand) call(r rpc.Request, pod *os.File) error {
	ctx, cancel := context.WithTimeout(context.Background(), callTime)
	defer cancel()
	reply, err := rpc.Client{Socket: filepath.Join(s.Dir, "run", "tendril.sock"), Patience: callTime / 2}.Call(ctx, r, pod)
	if err == nil && reply.ExitCode != 0 {
		err = fmt.Errorf("%s: %s", r.Command, reply.Stdout)
	}
	return err
}

// Request is the call as the shim would send it.
func (s *Stand) Request(command string) rpc.Request {
	return rpc.Request{
		ID: "crash", Command: command, ContainerID: "c1", IfName: "eth0", NetnsPath: fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), s.Pod.Fd()),
		Args: "K8S_POD_NAMESPACE=blue;K8S_POD_NAME=p;K8S_POD_UID=u1", StdinData: []byte(`{"cniVersion":"1.0.0","name":"tendril","type":"tendril"}`),
	}
}

// calls is how many kernel calls the last daemon has made that counted them.
func (s *Stand) calls() int {
	s.T.Helper()
	data, err := os.ReadFile(filepath.Join(s.Dir, "calls"))
	if err != nil || len(data) != 8 {
		s.T.Fatalf("read the number of kernel calls: %d bytes, %v", len(data), err)
	}
	return int(binary.NativeEndian.Uint64(data))
}

// Held reads from the journal of a stopped daemon what it holds for pods, a line
// for each.
func (s *Stand) Held() string {
	s.T.Helper()
	j, err := journal.Open(journal.Options{Path: filepath.Join(s.Dir, "run", "journal.db"), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		s.T.Fatal(err)
	}
	defer j.Close()
	var out string
	_ = j.View(func(tx *journal.Tx) error {
		for _, e := range tx.All() {
			out += "record " + e.IfName + "\n"
		}
		_ = tx.Bucket(journal.Devices).ForEach(func(k, _ []byte) error { out += fmt.Sprintf("device %s\n", k); return nil })
		return tx.Bucket(journal.Addresses).ForEach(func(k, _ []byte) error {
			if ipam.Held(k) {
				out += fmt.Sprintf("address %q\n", k)
			}
			return nil
		})
	})
	return out
}
