package crash

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tendril-cni/tendril/cmd/tendrild/node"
	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/journal"
	"github.com/tendril-cni/tendril/cni/netns/netnstest"
	"github.com/tendril-cni/tendril/cni/rpc"
	"github.com/tendril-cni/tendril/ipam"
)

// envScene makes this test binary be the daemon of the scene in that directory;
// envKill is the point at which it kills itself.
const (
	envScene = "TENDRIL_CRASH_SCENE"
	envKill  = "TENDRIL_CRASH_AT"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(envScene); dir != "" {
		daemon(dir, os.Getenv(envKill))
	}
	if os.Getenv("TENDRIL_LAB_GUEST") != "" {
		os.Exit(m.Run()) // the machine is this test's own, NICs included
	}
	netnstest.Main(m)
}

// scene is what the cluster knows: one pod and its networks.
type scene struct {
	Sysfs       string
	Annotation  string
	Definitions map[string]string // name -> spec.config
}

// Pod implements cni.Cluster.
func (s scene) Pod(_ context.Context, namespace, name, uid string) (cni.Pod, error) {
	return cni.Pod{PodRef: cni.PodRef{Namespace: namespace, Name: name, UID: uid},
		Annotations: map[string]string{"k8s.v1.cni.cncf.io/networks": s.Annotation}}, nil
}

// Definition implements cni.Cluster.
func (s scene) Definition(_ context.Context, namespace, name string) (cni.Definition, error) {
	conf, ok := s.Definitions[name]
	if !ok {
		return cni.Definition{}, fmt.Errorf("no definition %s", name)
	}
	return cni.Definition{Namespace: namespace, Name: name, Config: conf}, nil
}

type silence struct{}

func (silence) Publish(cni.PodRef, []cni.NetworkStatus)         {}
func (silence) Added(cni.PodRef, string, string, []cni.Address) {}
func (silence) Refused(cni.PodRef, error)                       {}

// daemon is the process that gets killed.
func daemon(dir, kill string) {
	var s scene
	data, err := os.ReadFile(filepath.Join(dir, "scene.json"))
	if err == nil {
		err = json.Unmarshal(data, &s)
	}
	if err == nil {
		err = node.Run(context.Background(), node.Config{
			NodeName: "crash", RunDir: filepath.Join(dir, "run"), StateDir: filepath.Join(dir, "state"),
			SysfsRoot: s.Sysfs, KubeletRoot: filepath.Join(dir, "kubelet"),
			CNIBinDir: filepath.Join(dir, "bin"), CNIConfDir: filepath.Join(dir, "net.d"),
			Log: slog.New(slog.NewTextHandler(os.Stderr, nil)), Cluster: s, Report: silence{},
			OnStep: func(point string) {
				if point == kill {
					_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
					select {}
				}
			},
		})
	}
	fmt.Fprintln(os.Stderr, "daemon ended:", err)
	os.Exit(1)
}

// stand is one machine under test.
type stand struct {
	t   *testing.T
	dir string
	pod *os.File
}

func newStand(t *testing.T, s scene, defaultNetwork string) *stand {
	t.Helper()
	st := &stand{t: t, dir: t.TempDir(), pod: netnstest.Pod(t)}
	data, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	st.write("scene.json", string(data))
	st.write("net.d/10-default.conflist", defaultNetwork)
	return st
}

func (s *stand) write(name, text string) {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

// victim is a running daemon.
type victim struct {
	cmd *exec.Cmd
	out strings.Builder
}

func (s *stand) start(kill string) *victim {
	s.t.Helper()
	v := &victim{cmd: exec.Command("/proc/self/exe")}
	v.cmd.Env = append(os.Environ(), envScene+"="+s.dir, envKill+"="+kill)
	v.cmd.Stdout, v.cmd.Stderr = &v.out, &v.out
	v.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := v.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = v.cmd.Process.Kill() })
	return v
}

// killed waits for the daemon to have killed itself. answer is what its last
// call said: it tells why a daemon never came to the point.
func (s *stand) killed(v *victim, answer error) {
	s.t.Helper()
	late := time.AfterFunc(time.Minute, func() { _ = v.cmd.Process.Signal(syscall.SIGTERM) })
	defer late.Stop()
	err := v.cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		s.t.Fatalf("daemon did not die by SIGKILL: %v; its last answer: %v\n%s", err, answer, v.out.String())
	}
}

// stop ends a daemon that still runs.
func (s *stand) stop(v *victim) {
	_ = v.cmd.Process.Kill()
	_ = v.cmd.Wait()
}

// call makes a CNI call as the shim does.
func (s *stand) call(command string) error {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	reply, err := rpc.Client{Socket: filepath.Join(s.dir, "run", "tendril.sock"), Patience: 30 * time.Second}.Call(ctx, rpc.Request{
		ID: "crash", Command: command, ContainerID: "c1", IfName: "eth0", NetnsPath: s.netnsPath(),
		Args: "K8S_POD_NAMESPACE=blue;K8S_POD_NAME=p;K8S_POD_UID=u1", StdinData: []byte(`{"cniVersion":"1.0.0","name":"tendril","type":"tendril"}`),
	}, s.pod)
	if err == nil && reply.ExitCode != 0 {
		err = fmt.Errorf("%s: %s", command, reply.Stdout)
	}
	return err
}

func (s *stand) netnsPath() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), s.pod.Fd()) }

// held reads from the journal of a stopped daemon what it holds for pods.
func (s *stand) held() string {
	s.t.Helper()
	j, err := journal.Open(journal.Options{Path: filepath.Join(s.dir, "run", "journal.db"), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		s.t.Fatal(err)
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

// points are all steps of the journal in ADD and DEL.
var points = []string{"before intent", "after intent", "before attached", "after attached", "before detached", "after detached"}

// sweep runs ADD and DEL on the stand that make gives, once for each point, and
// kills the daemon there. world prints what the kernel has, a line for each link;
// attachments is how many a complete ADD makes.
func sweep(t *testing.T, attachments int, make func(t *testing.T) *stand, world func(*stand) string) {
	for _, point := range points {
		t.Run(strings.ReplaceAll(point, " ", "-"), func(t *testing.T) {
			s := make(t)
			before := world(s)
			v := s.start(point)
			answer := s.call("ADD")
			if answer == nil {
				answer = s.call("DEL") // it is DEL that dies
			}
			s.killed(v, answer)
			v = s.start("never")
			s.afterCrash(world, before, attachments)
			for _, command := range []string{"DEL", "DEL", "ADD", "DEL"} {
				if err := s.call(command); err != nil {
					t.Fatalf("%v\n%s", err, v.out.String())
				}
			}
			s.stop(v)
			if got := world(s); got != before {
				t.Errorf("after everything the world is\n%s\nand was\n%s", got, before)
			}
			if got := s.held(); got != "" {
				t.Errorf("the journal still holds\n%s", got)
			}
		})
	}
}

// afterCrash wants the restarted daemon to have the world before the call where
// its journal has nothing complete, and otherwise the world with all attachments
// or, when it died inside DEL, with none: never a part of them.
func (s *stand) afterCrash(world func(*stand) string, before string, attachments int) {
	s.t.Helper()
	// The socket is served only when the recovery is done; CHECK waits for it.
	complete := s.call("CHECK") == nil
	now := world(s)
	if !complete && now != before {
		s.t.Errorf("nothing is attached, and yet the world is\n%s\nand was\n%s", now, before)
	}
	if n := strings.Count(now, "\n") - strings.Count(before, "\n"); n != 0 && n != attachments {
		s.t.Errorf("%d of %d interfaces are there:\n%s", n, attachments, now)
	}
}
