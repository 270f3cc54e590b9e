package machine

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tendril-cni/tendril/tests/lab/cache"
)

// The two ways of running a machine. Emulation is single-threaded: with one
// thread per virtual CPU, on busy hosts, about one boot in twenty hung.
const (
	hardware  = "kvm"
	emulation = "tcg,thread=single"
)

// trialMark is what the first program of a machine prints when its kernel
// command line has trialWord, before it turns the machine off.
const (
	trialMark = "lab: trial succeeded"
	trialWord = "lab.trial"
)

// trialPatience is how long a trial may take; where virtualisation is broken it
// can hang instead of failing.
const trialPatience = 20 * time.Second

// acceleration finds out whether hardware virtualisation works. That the device
// is there says little, in nested and paravirtual hosts above all, so the
// machine's own kernel is run once to see, and the answer kept for as long as
// the host runs the same kernel.
func acceleration(ctx context.Context, p parts) string {
	device, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return emulation
	}
	_ = device.Close()
	var host unix.Utsname
	if err := unix.Uname(&host); err != nil {
		return emulation
	}
	key := cache.Key(string(host.Release[:]), string(p.qemu), p.image)
	dir, err := cache.Artefact(ctx, "acceleration", key, func(ctx context.Context, dir string) error {
		answer := hardware
		if err := trial(ctx, p); err != nil {
			answer = emulation
			fmt.Fprintf(os.Stderr, "lab: hardware virtualisation does not work here (%v): machines are emulated\n", err)
		}
		return os.WriteFile(filepath.Join(dir, "answer"), []byte(answer), 0o644)
	})
	if err != nil {
		return emulation
	}
	answer, err := os.ReadFile(filepath.Join(dir, "answer"))
	if err != nil {
		return emulation
	}
	return string(answer)
}

// trial boots as far as the first program under hardware virtualisation.
func trial(ctx context.Context, p parts) error {
	ctx, cancel := context.WithTimeout(ctx, trialPatience)
	defer cancel()
	var a arguments
	a.addBase(p, hardware)
	a.add("-m", "256", "-append", "console=ttyS0 quiet panic=-1 "+trialWord, "-no-reboot", "-serial", "stdio")
	cmd := qemu(ctx, p, a)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case bytes.Contains(out.Bytes(), []byte(trialMark)):
		return nil
	case err != nil:
		return err
	default:
		return fmt.Errorf("kernel ended early")
	}
}

// qemu returns the command that runs the unpacked emulator.
func qemu(ctx context.Context, p parts, args []string) *exec.Cmd {
	cmd := p.qemu.Command(ctx, "usr/bin/qemu-system-x86_64", args...)
	// QEMU looks for its modules beside its executable, which is the loader.
	cmd.Env = append(cmd.Env, "QEMU_MODULE_DIR="+p.qemu.Path("usr/lib/x86_64-linux-gnu/qemu"))
	return cmd
}
