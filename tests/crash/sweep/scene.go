package sweep

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/tendril-cni/tendril/cmd/tendrild/node"
	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netns/netnstest"
)

// The environment makes this test binary be the daemon of the stand in a
// directory: which one, the journal step at which it kills itself, and the number
// of the kernel call before which it does.
const (
	envStand = "TENDRIL_CRASH_STAND"
	envStep  = "TENDRIL_CRASH_STEP"
	envCall  = "TENDRIL_CRASH_CALL"
)

// Main is the body of a TestMain. It does not return.
func Main(m *testing.M) {
	if dir := os.Getenv(envStand); dir != "" {
		daemon(dir)
	}
	if os.Getenv("TENDRIL_LAB_GUEST") != "" {
		os.Exit(m.Run()) // the machine is this test's own, NICs included
	}
	netnstest.Main(m)
}

// Scene is what the cluster knows: one pod and its networks.
type Scene struct {
	// Sysfs is where the daemon finds its NICs.
	Sysfs string
	// HostLocal is a directory that has the files of host-local; empty for none.
	HostLocal string
	// Default is the default network's configuration, a list.
	Default string
	// Annotation is the pod's networks, Definitions their spec.config by name.
	Annotation  string
	Definitions map[string]string
}

// Pod implements cni.Cluster.
func (s Scene) Pod(_ context.Context, namespace, name, uid string) (cni.Pod, error) {
	return cni.Pod{PodRef: cni.PodRef{Namespace: namespace, Name: name, UID: uid},
		Annotations: map[string]string{"k8s.v1.cni.cncf.io/networks": s.Annotation}}, nil
}

// Definition implements cni.Cluster.
func (s Scene) Definition(_ context.Context, namespace, name string) (cni.Definition, error) {
	conf, ok := s.Definitions[name]
	if !ok {
		return cni.Definition{}, fmt.Errorf("no definition %s", name)
	}
	return cni.Definition{Namespace: namespace, Name: name, Config: conf}, nil
}

type silence struct{}

func (silence) Publish(cni.PodRef, []cni.NetworkStatus) {}
func (silence) Added(cni.PodRef, []cni.Made)            {}
func (silence) Refused(cni.PodRef, error)               {}

// daemon is the process that gets killed.
func daemon(dir string) {
	err := perform(dir)
	fmt.Fprintln(os.Stderr, "daemon ended:", err)
	os.Exit(1)
}

func perform(dir string) error {
	var s Scene
	data, err := os.ReadFile(filepath.Join(dir, "scene.json"))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, &s); err != nil {
		return err
	}
	calls := &counter{path: filepath.Join(dir, "calls"), files: s.HostLocal}
	if calls.fatal, err = strconv.Atoi(os.Getenv(envCall)); err == nil {
		if err := calls.install(); err != nil {
			return fmt.Errorf("install seccomp filter: %w", err)
		}
	}
	step := os.Getenv(envStep)
	config := s.config(dir)
	config.OnStep = func(point string) {
		if point == "after intent" {
			// What is read before anything is recorded changes nothing.
			calls.armed.Store(true)
		}
		if point == step {
			die()
		}
	}
	return node.Run(context.Background(), config)
}

// config is the daemon's, with all its directories below dir.
func (s Scene) config(dir string) node.Config {
	var files []string
	if s.HostLocal != "" {
		files = []string{s.HostLocal}
	}
	return node.Config{
		HostLocalDirs: files,
		NodeName:      "crash", RunDir: filepath.Join(dir, "run"), StateDir: filepath.Join(dir, "state"),
		SysfsRoot: s.Sysfs, KubeletRoot: filepath.Join(dir, "kubelet"),
		CNIBinDir: filepath.Join(dir, "bin"), CNIConfDir: filepath.Join(dir, "net.d"),
		MultusDir: filepath.Join(dir, "multus"), SriovDir: filepath.Join(dir, "sriov"), MultusSocket: filepath.Join(dir, "multus.sock"),
		Log: slog.New(slog.NewTextHandler(os.Stderr, nil)), Cluster: s, Report: silence{},
	}
}

// die ends the process as a power cut would: nothing runs any more.
func die() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}
