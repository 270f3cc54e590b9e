package contest

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// Samples are the measurements of one Play.
type Samples []Sample

// Median returns the median of a series: of an even number of samples the lower
// of the two in the middle. It is 0 for a series without samples.
func (s Samples) Median(series string) time.Duration {
	var all []time.Duration
	for _, one := range s {
		if one.Series == series {
			all = append(all, one.Time)
		}
	}
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[(len(all)-1)/2]
}

// Comparison is one line of the table: two series, and how many times the second
// one the first one may take.
type Comparison struct {
	Name            string
	Ours, Reference string
	// Goal is the largest ratio that is good; 0 for a line that only informs.
	Goal float64
}

// Line is what came out of a Comparison.
type Line struct {
	Comparison
	OursTook, ReferenceTook time.Duration
}

// Line computes c from s. It is an error if one of the series has no samples.
func (c Comparison) Line(s Samples) (Line, error) {
	l := Line{Comparison: c, OursTook: s.Median(c.Ours), ReferenceTook: s.Median(c.Reference)}
	if l.OursTook <= 0 || l.ReferenceTook <= 0 {
		return l, fmt.Errorf("compare %s: series %q took %v and series %q took %v; both have to be there",
			c.Name, c.Ours, l.OursTook, c.Reference, l.ReferenceTook)
	}
	return l, nil
}

// Ratio is ours divided by the reference.
func (l Line) Ratio() float64 { return float64(l.OursTook) / float64(l.ReferenceTook) }

// Verdict is "met", "missed", or "-" where there is no goal.
func (l Line) Verdict() string {
	switch {
	case l.Goal == 0:
		return "-"
	case l.Ratio() <= l.Goal:
		return "met"
	}
	return "missed"
}

// Table prints lines for people: name, both medians, ratio, goal, verdict.
func Table(w io.Writer, lines []Line) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "what\tours\treference\tratio\tgoal\tverdict")
	for _, l := range lines {
		goal := "-"
		if l.Goal != 0 {
			goal = fmt.Sprintf("<= %.3f", l.Goal)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%.3f\t%s\t%s\n", l.Name, millis(l.OursTook), millis(l.ReferenceTook), l.Ratio(), goal, l.Verdict())
	}
	return t.Flush()
}

func millis(d time.Duration) string { return fmt.Sprintf("%.2f ms", d.Seconds()*1e3) }
