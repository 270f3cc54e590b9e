package contest

import (
	"context"
	"fmt"
	"time"
)

// Took is what one thing took in one round.
type Took struct {
	Series string
	Time   time.Duration
}

// Side takes its turn: it does its thing for the round and says what that took,
// one Took for each thing it measured. Rounds below zero are for warming up.
type Side func(ctx context.Context, round int) ([]Took, error)

// Rules say how a contest is played.
type Rules struct {
	// Rounds count; Warm rounds go before them and do not.
	Rounds, Warm int
	// Rest is the pause after each turn, in which what a side left to do in the
	// background is done before the next one is timed.
	Rest time.Duration
}

// Sample is one measurement.
type Sample struct {
	Series string
	Round  int // from 0
	Time   time.Duration
}

// Play lets the sides take turns and returns what they measured, in the order in
// which it was. It ends with ctx or with the first error of a side.
func Play(ctx context.Context, r Rules, sides ...Side) (Samples, error) {
	var out Samples
	for round := -r.Warm; round < r.Rounds; round++ {
		for _, turn := range sides {
			took, err := turn(ctx, round)
			if err != nil {
				return nil, fmt.Errorf("play round %d: %w", round, err)
			}
			for _, t := range took {
				if round >= 0 {
					out = append(out, Sample{Series: t.Series, Round: round, Time: t.Time})
				}
			}
			if err := rest(ctx, r.Rest); err != nil {
				return nil, fmt.Errorf("play round %d: %w", round, err)
			}
		}
	}
	return out, nil
}

func rest(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
