//go:build cluster

package lab_test

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tendril-cni/tendril/tests/lab"
	"github.com/tendril-cni/tendril/tests/lab/machine"
)

func TestMain(m *testing.M) { lab.Main(m, machine.Fetch) }

// patience is several times what each test takes on a busy machine.
const patience = 4 * time.Minute

func boot(t *testing.T, ctx context.Context, options ...machine.Options) []*machine.Machine {
	t.Helper()
	machines := make([]*machine.Machine, len(options))
	var g errgroup.Group
	for i, o := range options {
		g.Go(func() (err error) {
			machines[i], err = machine.Boot(ctx, o)
			return err
		})
	}
	err := g.Wait()
	t.Cleanup(func() {
		for _, m := range machines {
			if m != nil {
				if err := m.Close(); err != nil {
					t.Error(err)
				}
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return machines
}

// mustRun runs a script that has to succeed and returns what it printed.
func mustRun(t *testing.T, ctx context.Context, m *machine.Machine, script string) string {
	t.Helper()
	var out bytes.Buffer
	code, err := m.Run(ctx, script, &out)
	if err != nil || code != 0 {
		t.Fatalf("machine %d: %s: exit %d, %v\n%s", m.Index, script, code, err, out.String())
	}
	return strings.TrimSpace(out.String())
}

func TestTwoMachinesOnTwoWires(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	machines := boot(t, ctx, machine.Options{Index: 1}, machine.Options{Index: 2})
	for i, m := range machines {
		host := []string{"1", "2"}[i]
		mustRun(t, ctx, m, "ip addr add 192.168.50."+host+"/24 dev sriov0; ip addr add 192.168.51."+host+"/24 dev sriov1")
	}
	for _, net := range []string{"192.168.50.", "192.168.51."} {
		mustRun(t, ctx, machines[0], "ping -q -c 3 -i 0.2 -w 20 "+net+"2")
		mustRun(t, ctx, machines[1], "ping -q -c 3 -i 0.2 -w 20 "+net+"1")
	}
	mustRun(t, ctx, machines[0], "ping -q -c 2 -i 0.2 -w 20 "+machine.Addr(2).String())

	// The wires are two: what is addressed to the one does not come over the other.
	mustRun(t, ctx, machines[1], "ip link set sriov1 down")
	mustRun(t, ctx, machines[0], "ping -q -c 2 -i 0.2 -w 20 192.168.50.2")
	mustRun(t, ctx, machines[0], "! ping -q -c 2 -i 0.2 -w 3 192.168.51.2")
}

func TestResetIsAPowerCut(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	m := boot(t, ctx, machine.Options{})[0]
	mustRun(t, ctx, m, "echo kept > /var/kept && sync && echo run > /run/gone")
	lost := make(chan error, 1)
	go func() {
		_, err := m.Run(ctx, "sleep 600", &bytes.Buffer{})
		lost <- err
	}()
	time.Sleep(200 * time.Millisecond)
	if err := m.Reset(ctx); err != nil {
		t.Fatal(err)
	}
	if got := mustRun(t, ctx, m, "cat /var/kept"); got != "kept" {
		t.Errorf("synced file reads %q after the power cut", got)
	}
	mustRun(t, ctx, m, "test ! -e /run/gone")
	if got := mustRun(t, ctx, m, "ls -d /sys/bus/pci/drivers/igbvf/0000* | wc -l"); got != "14" {
		t.Errorf("%s VFs after the power cut, want 14", got)
	}
	select {
	case err := <-lost:
		if err == nil {
			t.Error("a script that the power cut ended has an exit code")
		}
	case <-time.After(time.Minute):
		t.Error("a script that the power cut ended is still waited for")
	}
}

func TestNUMAMachine(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	m := boot(t, ctx, machine.Options{NUMA: true, NumVFs: 2})[0]
	for pf, want := range map[string]string{"sriov0": "0 0 0", "sriov1": "1 1 1"} {
		dir := "/sys/class/net/" + pf + "/device/"
		got := strings.Join(strings.Fields(mustRun(t, ctx, m, "cat "+dir+"numa_node "+dir+"virtfn*/numa_node")), " ")
		if got != want {
			t.Errorf("NUMA nodes of %s and its VFs are %q, want %q", pf, got, want)
		}
	}
}

func TestFilesGoInAndOut(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	share := t.TempDir()
	m := boot(t, ctx, machine.Options{NumVFs: machine.NoVFs, Share: share})[0]
	if err := m.Put(ctx, "/var/tmp/a/script", 0o755, strings.NewReader("#!/bin/sh\necho $((6*7)) | tee /lab/answer")); err != nil {
		t.Fatal(err)
	}
	if got := mustRun(t, ctx, m, "/var/tmp/a/script"); got != "42" {
		t.Errorf("script printed %q, want 42", got)
	}
	data, err := m.Get(ctx, "/lab/answer")
	if err != nil || string(data) != "42\n" {
		t.Errorf("shared file reads %q, %v", data, err)
	}
	code, err := m.Run(ctx, "exit 7", &bytes.Buffer{})
	if code != 7 || err != nil {
		t.Errorf("exit 7 gave %d, %v", code, err)
	}
	mustRun(t, ctx, m, "runc --version; iptables -t nat -L -n; nft list ruleset; conntrack -L; ethtool -i sriov0; tcpdump --version; command -v awk nc ps lspci modprobe")
	if got := mustRun(t, ctx, m, "ls -d /sys/bus/pci/drivers/igbvf/0000* 2>/dev/null | wc -l"); got != "0" {
		t.Errorf("%s VFs on a machine without", got)
	}
}
