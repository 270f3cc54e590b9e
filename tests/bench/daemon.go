package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// node is the name of this machine's Node object.
const node = "bench"

// daemon is a running tendrild, installed as on a host.
type daemon struct {
	cmd   *exec.Cmd
	log   string
	ended chan struct{} // closed when the process is gone; err is set by then
	err   error

	shim string // the shim that it installed
	conf []byte // what libcni makes of the configuration that it installed
}

// startDaemon runs bin/tendrild as on a host, with its directories below dir but
// for the one that belongs on a tmpfs, and returns when it serves and has
// installed what the runtime needs.
func startDaemon(ctx context.Context, bin, dir, kubeconfig string) (*daemon, error) {
	confDir, binDir := filepath.Join(dir, "net.d"), filepath.Join(dir, "bin")
	if err := os.MkdirAll(confDir, 0o755); err != nil {
		return nil, err
	}
	network, err := json.Marshal(map[string]any{"cniVersion": cniVersion, "name": "ours", "plugins": []any{macvlanConf(oursSubnet)}})
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(confDir, "10-default.conflist"), network, 0o644); err != nil {
		return nil, err
	}
	d := &daemon{log: filepath.Join(dir, "tendrild.log"), shim: filepath.Join(binDir, "tendril"), ended: make(chan struct{})}
	d.cmd = exec.Command(filepath.Join(bin, "tendrild"), "--node-name="+node, "--kubeconfig="+kubeconfig,
		"--run-dir=/run/tendril", "--state-dir="+filepath.Join(dir, "state"), "--kubelet-root="+filepath.Join(dir, "kubelet"),
		"--cni-bin-dir="+binDir, "--cni-conf-dir="+confDir)
	if err := d.start(); err != nil {
		return nil, fmt.Errorf("start tendrild: %w", err)
	}
	err = await(ctx, "tendrild to serve", func() (bool, error) { return d.installed(filepath.Join(confDir, "00-tendril.conflist")) })
	if err != nil {
		return nil, errors.Join(err, d.stop(true))
	}
	return d, nil
}

func (d *daemon) start() error {
	log, err := os.Create(d.log)
	if err != nil {
		return err
	}
	defer log.Close()
	d.cmd.Stdout, d.cmd.Stderr = log, log
	// An interrupt from the keyboard is for the benchmark, which then stops us.
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := d.cmd.Start(); err != nil {
		return err
	}
	go func() { d.err = d.cmd.Wait(); close(d.ended) }()
	return nil
}

// installed reports whether the daemon wrote its configuration, and reads it.
func (d *daemon) installed(path string) (bool, error) {
	select {
	case <-d.ended:
		return false, fmt.Errorf("it ended: %w", errors.Join(errors.New(d.cmd.ProcessState.String()), d.err))
	default:
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err == nil {
		d.conf, err = firstPlugin(data)
	}
	return err == nil, err
}

// stop ends the daemon in order, and by force when that takes too long. tail
// asks for the end of its log as an error.
func (d *daemon) stop(tail bool) error {
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-d.ended:
	case <-time.After(patience):
		_ = d.cmd.Process.Kill()
		<-d.ended
	}
	if !tail && d.err == nil {
		return nil
	}
	log, err := os.ReadFile(d.log)
	return errors.Join(d.err, err, fmt.Errorf("end of the daemon's log:\n%s", log[max(0, len(log)-4<<10):]))
}

// firstPlugin is what a plugin gets of a configuration list: its own part with
// the list's name and version (CNI specification, section 3).
func firstPlugin(list []byte) ([]byte, error) {
	var l struct {
		Name, CNIVersion string
		Plugins          []map[string]any
	}
	if err := json.NewDecoder(bytes.NewReader(list)).Decode(&l); err != nil {
		return nil, fmt.Errorf("read configuration list: %w", err)
	}
	if len(l.Plugins) == 0 {
		return nil, errors.New("read configuration list: it has no plugins")
	}
	p := l.Plugins[0]
	delete(p, "capabilities") // the runtime's to read
	p["name"], p["cniVersion"] = l.Name, l.CNIVersion
	return json.Marshal(p)
}
