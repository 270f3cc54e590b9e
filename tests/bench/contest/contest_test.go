package contest_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tendril-cni/tendril/tests/bench/contest"
)

// side says that its series took the round's number and some, and notes its turn.
func side(series string, more time.Duration, turns *[]string) contest.Side {
	return func(_ context.Context, round int) ([]contest.Took, error) {
		*turns = append(*turns, series)
		return []contest.Took{{Series: series, Time: time.Duration(round) + more}}, nil
	}
}

func TestSidesTakeTurnsAndWarmRoundsDoNotCount(t *testing.T) {
	var turns []string
	got, err := contest.Play(t.Context(), contest.Rules{Rounds: 2, Warm: 1}, side("a", 10, &turns), side("b", 20, &turns))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("a b a b a b", strings.Join(turns, " ")); diff != "" {
		t.Errorf("turns (-want +got):\n%s", diff)
	}
	want := contest.Samples{{"a", 0, 10}, {"b", 0, 20}, {"a", 1, 11}, {"b", 1, 21}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("samples (-want +got):\n%s", diff)
	}
}

func TestNothingIsReportedOfAContestThatBroke(t *testing.T) {
	broken := errors.New("no such plugin")
	var turns []string
	got, err := contest.Play(t.Context(), contest.Rules{Rounds: 9}, side("a", 1, &turns), func(_ context.Context, round int) ([]contest.Took, error) {
		if round == 3 {
			return nil, broken
		}
		return nil, nil
	})
	if !errors.Is(err, broken) || got != nil || len(turns) != 4 {
		t.Errorf("samples %v, error %v after %d turns", got, err, len(turns))
	}
}

func TestContestEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	_, err := contest.Play(ctx, contest.Rules{Rounds: 9, Rest: time.Hour}, func(context.Context, int) ([]contest.Took, error) {
		cancel()
		return nil, nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func samples(series string, times ...time.Duration) (out contest.Samples) {
	for i, d := range times {
		out = append(out, contest.Sample{Series: series, Round: i, Time: d})
	}
	return out
}

func TestMedian(t *testing.T) {
	for name, tc := range map[string]struct {
		in   []time.Duration
		want time.Duration
	}{
		"none":      {nil, 0},
		"one":       {[]time.Duration{7}, 7},
		"even":      {[]time.Duration{4, 1, 3, 2}, 2},
		"outlier":   {[]time.Duration{5, 900, 6}, 6},
		"all alike": {[]time.Duration{2, 2, 2}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			all := append(samples("other", 1000, 2000), samples("a", tc.in...)...)
			if got := all.Median("a"); got != tc.want {
				t.Errorf("median %v, want %v", got, tc.want)
			}
		})
	}
}

func TestTable(t *testing.T) {
	ms := time.Millisecond
	all := append(samples("ours", 3*ms, 3*ms), samples("theirs", 12*ms, 11*ms)...)
	var lines []contest.Line
	for _, c := range []contest.Comparison{
		{Name: "ADD", Ours: "ours", Reference: "theirs", Goal: 1. / 3},
		{Name: "backwards", Ours: "theirs", Reference: "ours", Goal: 2},
		{Name: "for your information", Ours: "ours", Reference: "ours"},
	} {
		l, err := c.Line(all)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, l)
	}
	var got strings.Builder
	if err := contest.Table(&got, lines); err != nil {
		t.Fatal(err)
	}
	const want = `what                  ours      reference  ratio  goal      verdict
ADD                   3.00 ms   11.00 ms   0.273  <= 0.333  met
backwards             11.00 ms  3.00 ms    3.667  <= 2.000  missed
for your information  3.00 ms   3.00 ms    1.000  -         -
`
	if diff := cmp.Diff(want, got.String()); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
}

func TestComparisonWithoutSamplesIsAnError(t *testing.T) {
	_, err := contest.Comparison{Name: "ADD", Ours: "a", Reference: "b"}.Line(samples("a", 5))
	if err == nil || !strings.Contains(err.Error(), `series "b" took 0s`) {
		t.Errorf("error %v", err)
	}
}
