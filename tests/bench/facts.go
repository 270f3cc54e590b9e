package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// fact is a circumstance that a number may depend on.
type fact struct{ name, value string }

// observe collects the facts. None of them names the machine.
func observe(ctx context.Context, bin string, rounds int) []fact {
	version, _ := exec.CommandContext(ctx, filepath.Join(bin, "tendrild"), "-version").Output()
	return []fact{
		{"date", time.Now().UTC().Format(time.RFC3339)},
		{"tendril", strings.TrimSpace(string(version))},
		{"reference", "containernetworking/plugins v1.9.1: macvlan + host-local, its data on a tmpfs"},
		{"kernel", release()},
		{"cpus", strconv.Itoa(runtime.NumCPU())},
		{"cpu", cpuModel()},
		{"go", runtime.Version()},
		{"namespaces", owner()},
		{"scheduling", scheduling()},
		{"rounds", strconv.Itoa(rounds)},
		{"load before", load()},
	}
}

func release() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "unknown: " + err.Error()
	}
	return unix.ByteSliceToString(u.Release[:]) + " " + unix.ByteSliceToString(u.Machine[:])
}

// cpuModel is the first one of proc_cpuinfo(5); not every architecture has it.
func cpuModel() string {
	data, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(data)) {
		if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

// owner says whether the lab is root's or has a user namespace (user_namespaces(7)).
func owner() string {
	data, _ := os.ReadFile("/proc/self/uid_map")
	if f := strings.Fields(string(data)); len(f) == 3 && f[2] == "4294967295" {
		return "of root"
	}
	return "of a user namespace"
}

// scheduling is the policy under which this process and all that it starts run
// (sched(7)).
func scheduling() string {
	names := map[int]string{unix.SCHED_NORMAL: "normal", unix.SCHED_FIFO: "real time, first in first out", unix.SCHED_RR: "real time, round robin"}
	policy, err := unix.SchedGetAttr(0, 0)
	if err != nil {
		return "unknown: " + err.Error()
	}
	if name := names[int(policy.Policy)]; name != "" {
		return name
	}
	return "policy " + strconv.Itoa(int(policy.Policy))
}

// load are the averages of 1, 5 and 15 minutes (proc_loadavg(5)).
func load() string {
	data, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown: " + err.Error()
	}
	f := strings.Fields(string(data))
	return strings.Join(f[:min(3, len(f))], " ")
}
