package host

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

	"github.com/tendril-cni/tendril/tests/bench/contest"
)

// Facts says where and with what a run is made. None of it names the machine.
func Facts(ctx context.Context, bin string) []contest.Fact {
	version, _ := exec.CommandContext(ctx, filepath.Join(bin, "tendrild"), "-version").Output()
	return []contest.Fact{
		{Name: "date", Value: time.Now().UTC().Format(time.RFC3339)},
		{Name: "tendril", Value: strings.TrimSpace(string(version))},
		{Name: "kernel", Value: release()},
		{Name: "cpus", Value: strconv.Itoa(runtime.NumCPU())},
		{Name: "cpu", Value: cpuModel()},
		{Name: "go", Value: runtime.Version()},
		{Name: "namespaces", Value: owner()},
		{Name: "scheduling", Value: scheduling()},
		{Name: "load before", Value: Load()},
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

// Load is the averages of 1, 5 and 15 minutes (proc_loadavg(5)).
func Load() string {
	data, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown: " + err.Error()
	}
	f := strings.Fields(string(data))
	return strings.Join(f[:min(3, len(f))], " ")
}
