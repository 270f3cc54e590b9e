package host

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Tendril is a running tendrild, installed as on a host.
type Tendril struct {
	*Process
	// Caller makes its calls: the shim that it installed, with what libcni makes
	// of the configuration that it installed.
	Caller Caller
}

// Options of StartTendril.
type Options struct {
	// Bin is the directory of tendrild with the shim beside it; Dir is where its
	// directories come to lie, but for the one that belongs on a tmpfs.
	Bin, Dir   string
	Kubeconfig string
	Node       string
	// Default is the default network's configuration, a list.
	Default []byte
	// Plugins is CNI_PATH.
	Plugins string
	// HostLocal is the directory in which host-local has its files; empty for none
	// that the daemon uses.
	HostLocal string
	// Flags are further flags of the daemon.
	Flags []string
	// Group is charged for the daemon; nil for none.
	Group *Group
}

// StartTendril runs tendrild as on a host, and returns when it serves and has
// installed what the runtime needs.
func StartTendril(ctx context.Context, o Options) (*Tendril, error) {
	confDir, binDir := filepath.Join(o.Dir, "net.d"), filepath.Join(o.Dir, "bin")
	if err := os.MkdirAll(confDir, 0o755); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(confDir, "10-default.conflist"), o.Default, 0o644); err != nil {
		return nil, err
	}
	if o.HostLocal != "" { // as the host has it before its pods
		if err := os.MkdirAll(o.HostLocal, 0o755); err != nil {
			return nil, err
		}
	}
	flags := append([]string{"--node-name=" + o.Node, "--kubeconfig=" + o.Kubeconfig,
		"--run-dir=/run/tendril", "--state-dir=" + filepath.Join(o.Dir, "state"), "--kubelet-root=" + filepath.Join(o.Dir, "kubelet"),
		"--cni-bin-dir=" + binDir, "--cni-conf-dir=" + confDir, "--host-local-dirs=" + o.HostLocal}, o.Flags...)
	process, err := o.Group.Start(filepath.Join(o.Dir, "tendrild.log"), exec.Command(filepath.Join(o.Bin, "tendrild"), flags...))
	if err != nil {
		return nil, err
	}
	t := &Tendril{Process: process, Caller: Caller{Plugin: filepath.Join(binDir, "tendril"), Path: o.Plugins, IfName: "eth0"}}
	err = Await(ctx, "tendrild to serve", func() (bool, error) { return t.installed(filepath.Join(confDir, "00-tendril.conflist")) })
	if err != nil {
		return nil, errors.Join(err, t.Stop(true))
	}
	return t, nil
}

// installed reports whether the daemon wrote its configuration, and reads it.
func (t *Tendril) installed(path string) (bool, error) {
	if err := t.Ended(); err != nil {
		return false, err
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err == nil {
		t.Caller.Conf, err = FirstPlugin(data)
	}
	return err == nil, err
}

// FirstPlugin is what a plugin gets of a configuration list: its own part with
// the list's name and version (CNI specification, section 3).
func FirstPlugin(list []byte) ([]byte, error) {
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
