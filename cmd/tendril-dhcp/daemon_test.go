package main

import (
	"log/slog"
	"net"
	"net/rpc"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/containernetworking/cni/pkg/skel"
)

// asDaemon has the test's own executable be the daemon.
const asDaemon = "TENDRIL_TEST_DHCP_DAEMON"

func TestMain(m *testing.M) {
	if os.Getenv(asDaemon) != "" {
		os.Exit(daemon(os.Args[1:], slog.New(slog.DiscardHandler)))
	}
	os.Exit(m.Run())
}

// TestDaemonOnASocketOfSystemd: the reference's units, and Podman's, have systemd
// listen and start `dhcp daemon` with the first call (sd_listen_fds(3)).
func TestDaemonOnASocketOfSystemd(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "dhcp.sock")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false)
	f, err := ln.File()
	if err != nil {
		t.Fatal(err)
	}
	// The variable names the process that is meant, which the shell becomes.
	cmd := exec.Command("sh", "-c", `LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" "$@"`, os.Args[0], "-hostprefix", dir, "-socketpath", "/dhcp.sock")
	cmd.Env, cmd.ExtraFiles, cmd.Stderr = append(os.Environ(), asDaemon+"=1"), []*os.File{f}, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// From here on a connection is answered by the daemon, or refused when it ends.
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	client, err := rpc.DialHTTP("unix", socket)
	if err == nil {
		err = client.Call("DHCP.Release", &skel.CmdArgs{ContainerID: "c1", IfName: "eth0",
			StdinData: []byte(`{"cniVersion":"1.0.0","name":"n","type":"macvlan","ipam":{"type":"dhcp"}}`)}, &struct{}{})
		_ = client.Close()
	}
	if err != nil {
		t.Error(err)
	}
	_ = cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}
