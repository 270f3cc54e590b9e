package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/tendril-cni/tendril/tests/lab/machine"
	"github.com/tendril-cni/tendril/tests/lab/programs"
)

const (
	// storeDir is where containerd keeps images in a node, as guest/containerd.toml says.
	storeDir  = "/var/lib/containerd"
	storeSize = "2G" // sparse; what nodes import and pods write goes here too
)

// storeConfig is all that containerd needs to import images.
const storeConfig = `version = 3
root = %q
state = %q
disabled_plugins = ["io.containerd.nri.v1.nri", "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime"]
[grpc]
  address = %q
`

// writeStore writes a disk that has, as a node's containerd would have it, what archives hold. The
// same containerd imports them here: an emulated node takes ten times as long, and each node would.
func writeStore(ctx context.Context, image, dir string, archives []string) error {
	bin, err := programs.Containerd(ctx)
	if err != nil {
		return err
	}
	// A socket's path has to be short, and the lab's /run is its own.
	state, err := os.MkdirTemp("/run", "store-")
	if err != nil {
		return err
	}
	root, socket, config := filepath.Join(dir, "root"), filepath.Join(state, "socket"), filepath.Join(dir, "config.toml")
	err = os.WriteFile(config, fmt.Appendf(nil, storeConfig, root, filepath.Join(state, "state"), socket), 0o644)
	if err == nil {
		err = serving(ctx, filepath.Join(bin, "containerd"), config, socket, func() error {
			return importAll(ctx, filepath.Join(bin, "ctr"), socket, archives)
		})
	}
	if err == nil {
		err = machine.WriteDisk(ctx, image, storeSize, root)
	}
	return errors.Join(err, os.RemoveAll(state))
}

// serving runs containerd while do does.
func serving(ctx context.Context, containerd, config, socket string, do func() error) (err error) {
	log, err := os.Create(config + ".log")
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, containerd, "--config", config)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := errors.Join(cmd.Start(), log.Close()); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }() // ends with containerd, which ends below
	if err = awaitSocket(ctx, socket, ended); err == nil {
		err = errors.Join(do(), cmd.Process.Signal(syscall.SIGTERM), <-ended)
	}
	if err != nil {
		said, _ := os.ReadFile(log.Name())
		err = fmt.Errorf("%w\n%s", err, said[max(0, len(said)-2000):])
	}
	return err
}

// awaitSocket returns when the socket is there, or with why it never will be; containerd has ended
// then.
func awaitSocket(ctx context.Context, socket string, ended <-chan error) error {
	for {
		if _, err := os.Stat(socket); err == nil {
			return nil
		}
		select {
		case err := <-ended: // with ctx too, which kills it
			return errors.Join(errors.New("containerd ended early"), err, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func importAll(ctx context.Context, ctr, socket string, archives []string) error {
	for _, archive := range archives {
		out, err := exec.CommandContext(ctx, ctr, "--address", socket, "--namespace", "k8s.io", "images", "import", "--local", archive).CombinedOutput()
		if err != nil {
			return fmt.Errorf("import %s: %w: %s", archive, err, out)
		}
	}
	return nil
}
