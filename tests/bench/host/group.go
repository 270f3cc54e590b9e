package host

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Group is a control group of its own for one daemon, so that one sees what a
// node's limits would hold against it: anonymous memory, the files it was the first
// to read, its tmpfs, and the kernel's memory for it. A nil Group is none.
type Group struct {
	home, dir string // directories: this process' own group, and the new one
	two       bool   // version 2 of the interface
}

// NewGroup makes a group called name beside that of this process, or inside it
// where the interface is version 1. It needs a machine that lets it: root, and the
// memory controller in one of the two.
func NewGroup(name string) (*Group, error) {
	home, two, err := homeGroup()
	if err != nil {
		return nil, fmt.Errorf("find control group: %w", err)
	}
	g := &Group{home: home, two: two, dir: filepath.Join(home, name)}
	if two {
		parent, err := distributor(home)
		if err != nil {
			return nil, err
		}
		g.dir = filepath.Join(parent, name)
	}
	if err := os.Mkdir(g.dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("make control group: %w", err)
	}
	return g, nil
}

// homeGroup mounts the hierarchy that has the memory controller, since a lab's
// /sys is its own and has none, and returns this process' directory in it.
func homeGroup() (dir string, two bool, err error) {
	data, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", false, err
	}
	var one, unified string
	for line := range strings.Lines(string(data)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3) // cgroups(7)
		switch {
		case len(parts) != 3:
		case parts[0] == "0":
			unified = parts[2]
		case slices.Contains(strings.Split(parts[1], ","), "memory"):
			one = parts[2]
		}
	}
	if one != "" {
		dir, err = mountGroups("cgroup", "memory")
		return filepath.Join(dir, one), false, err
	}
	dir, err = mountGroups("cgroup2", "")
	return filepath.Join(dir, unified), true, err
}

func mountGroups(kind, options string) (string, error) {
	const dir = "/run/cgroup"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	if mounts, err := os.ReadFile("/proc/self/mounts"); err == nil && strings.Contains(string(mounts), " "+dir+" ") {
		return dir, nil
	}
	if err := unix.Mount(kind, dir, kind, unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, options); err != nil {
		return "", fmt.Errorf("mount %s: %w", kind, err)
	}
	return dir, nil
}

// distributor is the nearest group above dir that gives its children the memory
// controller: one with processes of its own must not (cgroups(7), version 2).
func distributor(dir string) (string, error) {
	for ; dir != "/run"; dir = filepath.Dir(dir) {
		data, err := os.ReadFile(filepath.Join(dir, "cgroup.subtree_control"))
		if err != nil {
			return "", err
		}
		if slices.Contains(strings.Fields(string(data)), "memory") {
			return dir, nil
		}
	}
	return "", errors.New("no control group gives the memory controller to those below it")
}

// Start is [Start] for a process that belongs to the group from the first page on,
// its executable's included.
func (g *Group) Start(log string, cmd *exec.Cmd) (*Process, error) {
	if g == nil {
		return Start(log, cmd)
	}
	if err := forget(cmd.Path); err != nil {
		return nil, err
	}
	if err := enter(g.dir); err != nil {
		return nil, err
	}
	p, err := Start(log, cmd)
	if back := enter(g.home); back != nil {
		return p, errors.Join(err, back)
	}
	return p, err
}

// enter moves this process; a child that is started now is in the group as well.
func enter(dir string) error {
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0); err != nil {
		return fmt.Errorf("enter control group: %w", err)
	}
	return nil
}

// forget drops a file's pages: who reads one first is charged for it.
func forget(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return errors.Join(f.Sync(), unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED))
}

// Charge is what a group is charged, in bytes.
type Charge struct {
	Now, Most int
	// Anonymous and Kernel are parts of Now; the rest is files and tmpfs. Kernel is
	// 0 where the kernel does not count it.
	Anonymous, Kernel int
}

// Charge reads what the group is charged.
func (g *Group) Charge() (c Charge, err error) {
	names, stat := []string{"memory.usage_in_bytes", "memory.max_usage_in_bytes"}, "total_rss"
	if g.two {
		names, stat = []string{"memory.current", "memory.peak"}, "anon"
	}
	for i, to := range []*int{&c.Now, &c.Most} {
		if *to, err = g.number(names[i]); err != nil {
			return c, err
		}
	}
	if c.Anonymous, err = g.stat(stat); err != nil {
		return c, err
	}
	if g.two {
		c.Kernel, err = g.stat("kernel")
	} else {
		c.Kernel, err = g.number("memory.kmem.usage_in_bytes")
	}
	return c, err
}

func (g *Group) number(file string) (int, error) {
	data, err := os.ReadFile(filepath.Join(g.dir, file))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(data)))
}

func (g *Group) stat(line string) (int, error) {
	data, err := os.ReadFile(filepath.Join(g.dir, "memory.stat"))
	if err != nil {
		return 0, err
	}
	for l := range strings.Lines(string(data)) {
		if value, ok := strings.CutPrefix(l, line+" "); ok {
			return strconv.Atoi(strings.TrimSpace(value))
		}
	}
	return 0, fmt.Errorf("read memory of control group: no line %s", line)
}

// Close removes the group, whose processes have ended.
func (g *Group) Close() error {
	if g == nil {
		return nil
	}
	if err := os.Remove(g.dir); err != nil {
		return fmt.Errorf("remove control group: %w", err)
	}
	return nil
}
