package link

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Port is one VF's place at its PF. Kernel returns the real one.
type Port interface {
	// Read returns what the PF reports now.
	Read() (Attributes, error)
	// Write performs one step. Errors carry the kernel's errno.
	Write(Step) error
}

// How long a driver may take: a VF that is being reset answers EAGAIN or EBUSY
// for some seconds (i40e, ice), and a MAC can appear late in what it reports.
const (
	busyFor   = 5 * time.Second
	settleFor = 2 * time.Second
	pause     = 50 * time.Millisecond
)

// Read returns what the PF reports about t. A PF without such a VF is ErrNoVF,
// an absent PF device is ENODEV of the kernel.
func Read(t Target) (Attributes, error) {
	a, err := Kernel(t).Read()
	if err != nil {
		return Attributes{}, fmt.Errorf("read %s: %w", t, err)
	}
	return a, nil
}

// Apply brings t to c and reads it back. Errors are refusals (see Refused) where
// the driver does not take a value; a driver that is busy is asked again for at
// most 5 s, and never beyond ctx.
func Apply(ctx context.Context, t Target, c Change) error { return ApplyTo(ctx, Kernel(t), t, c) }

// ApplyTo is Apply on a port other than the kernel's.
func ApplyTo(ctx context.Context, p Port, t Target, c Change) error {
	if c.Empty() {
		return nil
	}
	current, err := p.Read()
	if err != nil {
		return fmt.Errorf("read %s: %w", t, err)
	}
	steps := Plan(current, c)
	for _, s := range steps {
		if err := write(ctx, p, s); err != nil {
			learn(t, s, err)
			return fmt.Errorf("set %s of %s: %w", s.Field, t, Refused(t, s, err))
		}
	}
	if len(steps) == 0 {
		return nil
	}
	return verify(ctx, p, t, c)
}

// write performs s, again while the driver says that it is busy.
func write(ctx context.Context, p Port, s Step) error {
	ctx, cancel := context.WithTimeout(ctx, busyFor)
	defer cancel()
	for {
		err := p.Write(s)
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EBUSY) {
			return err
		}
		if wait(ctx) != nil {
			return err
		}
	}
}

// verify reads until nothing of c is missing any more.
func verify(ctx context.Context, p Port, t Target, c Change) error {
	ctx, cancel := context.WithTimeout(ctx, settleFor)
	defer cancel()
	for {
		seen, err := p.Read()
		if err != nil {
			return fmt.Errorf("read back %s: %w", t, err)
		}
		missing := Missing(seen, c)
		if len(missing) == 0 {
			return nil
		}
		if wait(ctx) != nil {
			return fmt.Errorf("read back %s: the driver did not keep it: %s", t, strings.Join(missing, ", "))
		}
	}
}

func wait(ctx context.Context) error {
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
