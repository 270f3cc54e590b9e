package host

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// tick is the unit of times in proc_pid_stat(5): USER_HZ is 100 on Linux.
const tick = 10 * time.Millisecond

// CPU is the processor time that the process has taken: its threads to the
// nanosecond, ended ones too, and the children that it has waited for to a tick.
func (p *Process) CPU() (time.Duration, error) {
	var ts unix.Timespec
	// The clock of a process (clock_getcpuclockid(3)): its inverted id and, for
	// what the scheduler counted, a 2.
	if err := unix.ClockGettime(int32(^p.Pid()<<3|2), &ts); err != nil {
		return 0, fmt.Errorf("read processor time of %s: %w", p.cmd.Path, err)
	}
	children, err := p.waitedFor()
	return time.Duration(ts.Nano()) + children, err
}

// waitedFor is cutime and cstime of proc_pid_stat(5), the 16th and 17th field.
func (p *Process) waitedFor() (time.Duration, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.Pid()))
	if err != nil {
		return 0, err
	}
	_, after, _ := strings.Cut(string(data), ") ") // the second field may have spaces
	fields := strings.Fields(after)
	if len(fields) < 15 {
		return 0, fmt.Errorf("read processor time of children: %q is too short", data)
	}
	var ticks int64
	for _, f := range fields[13:15] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * tick, nil
}

// ShimCPU is the processor time of all calls so far: of the executables, and of
// what these waited for.
func ShimCPU() (time.Duration, error) {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_CHILDREN, &u); err != nil {
		return 0, err
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
}

// Memory is a line of proc_pid_status(5), such as VmRSS, in KiB.
func (p *Process) Memory(line string) (int, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Pid()))
	if err != nil {
		return 0, err
	}
	for l := range strings.Lines(string(data)) {
		if value, ok := strings.CutPrefix(l, line+":"); ok {
			return strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")))
		}
	}
	return 0, fmt.Errorf("read memory of %s: no line %s", p.cmd.Path, line)
}
