package loan_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/loan"
)

const patience = 20 * time.Second

var run cni.Runner = func(context.Context, string, []byte, []string) ([]byte, error) { return []byte("ran"), nil }

// lending calls Lend until stop, as calls of a runtime do.
func lending(d *loan.Desk) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var calls sync.WaitGroup
	for range 2 {
		calls.Go(func() {
			for ctx.Err() == nil {
				d.Lend(ctx, run, patience)
				time.Sleep(time.Millisecond)
			}
		})
	}
	return func() { cancel(); calls.Wait() }
}

func TestNobodyWaitsNothingIsLent(t *testing.T) {
	if n := loan.New().Lend(context.Background(), run, patience); n != 0 {
		t.Errorf("served %d, want none", n)
	}
}

func TestBorrowedRunnerIsUsedOnceForEachAndItsErrorComesBack(t *testing.T) {
	d := loan.New()
	defer lending(d)()
	var ran atomic.Int32
	bad := errors.New("no")
	var borrowers sync.WaitGroup
	for i := range 50 {
		borrowers.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			err := d.Borrow(ctx, func(ctx context.Context, run cni.Runner) error {
				ran.Add(1)
				if out, err := run(ctx, "x", nil, nil); err != nil || string(out) != "ran" {
					t.Errorf("runner answered %q, %v", out, err)
				}
				if i%2 == 0 {
					return bad
				}
				return nil
			})
			if want := i%2 == 0; errors.Is(err, bad) != want {
				t.Errorf("borrower %d got %v", i, err)
			}
		})
	}
	borrowers.Wait()
	if n := ran.Load(); n != 50 {
		t.Errorf("%d works ran, want 50", n)
	}
}

func TestBorrowerWithoutALenderGivesUp(t *testing.T) {
	d := loan.New()
	ctx, cancel := context.WithCancel(context.Background())
	given := make(chan error, 1)
	go func() {
		given <- d.Borrow(ctx, func(context.Context, cni.Runner) error { t.Error("the work ran"); return nil })
	}()
	cancel()
	if err := <-given; !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v, want that it was cancelled", err)
	}
	if n := d.Lend(context.Background(), run, patience); n != 0 {
		t.Errorf("served %d who had left", n)
	}
}

// TestWorkEndsWithItsLenderAndItsBorrower: it takes a call no further than the
// call's own end, nor longer than whoever asked for it wants.
func TestWorkEndsWithItsLenderAndItsBorrower(t *testing.T) {
	for name, lenderEnds := range map[string]bool{"lender": true, "borrower": false} {
		t.Run(name, func(t *testing.T) {
			d := loan.New()
			lender, endLender := context.WithCancel(context.Background())
			borrower, endBorrower := context.WithCancel(context.Background())
			defer endLender()
			defer endBorrower()
			given := make(chan error, 1)
			go func() {
				given <- d.Borrow(borrower, func(ctx context.Context, _ cni.Runner) error {
					if lenderEnds {
						endLender()
					} else {
						endBorrower()
					}
					<-ctx.Done()
					return ctx.Err()
				})
			}()
			for d.Lend(lender, run, patience) == 0 {
				time.Sleep(time.Millisecond)
			}
			if err := <-given; err == nil {
				t.Error("no error for work that was cut off")
			}
		})
	}
}

// TestNothingBeginsAfterTheWindow: a call does a bounded part of what waits.
func TestNothingBeginsAfterTheWindow(t *testing.T) {
	d := loan.New()
	var borrowers sync.WaitGroup
	for range 3 {
		borrowers.Go(func() {
			_ = d.Borrow(context.Background(), func(context.Context, cni.Runner) error { time.Sleep(5 * time.Millisecond); return nil })
		})
	}
	for left := 3; left > 0; {
		n := d.Lend(context.Background(), run, time.Millisecond)
		if n > 1 {
			t.Errorf("served %d, and the time was over after one", n)
		}
		left -= n
	}
	borrowers.Wait()
}
