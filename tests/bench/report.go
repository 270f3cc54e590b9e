package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/tendril-cni/tendril/tests/bench/contest"
)

// report is what a run leaves: facts, the table, every sample.
type report struct {
	facts []fact
	lines []contest.Line
	parts []played
}

type played struct {
	name    string
	samples contest.Samples
}

// add takes in the samples of a part that was played.
func (r *report) add(p part, s contest.Samples) error {
	r.parts = append(r.parts, played{p.name, s})
	for _, c := range p.lines {
		l, err := c.Line(s)
		if err != nil {
			return err
		}
		r.lines = append(r.lines, l)
	}
	return nil
}

// publish prints the table and writes the file into dir, unless that is "".
func (r *report) publish(dir string) error {
	if err := contest.Table(os.Stdout, r.lines); err != nil || dir == "" {
		return err
	}
	path := filepath.Join(dir, time.Now().UTC().Format("2006-01-02T1504")+".tsv")
	var b bytes.Buffer
	if err := r.write(&b); err != nil {
		return err
	}
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(path, b.Bytes(), 0o644)); err != nil {
		return fmt.Errorf("write samples: %w", err)
	}
	say("all samples are in %s", path)
	return nil
}

// write prints facts and table as lines that start with #, and then a line a
// sample: part, series, round, microseconds, separated by tabs.
func (r *report) write(w io.Writer) error {
	var table bytes.Buffer
	if err := contest.Table(&table, r.lines); err != nil {
		return err
	}
	for _, f := range r.facts {
		fmt.Fprintf(w, "# %s: %s\n", f.name, f.value)
	}
	for line := range bytes.Lines(table.Bytes()) {
		fmt.Fprintf(w, "# %s", line)
	}
	fmt.Fprintln(w, "part\tseries\tround\tmicroseconds")
	for _, p := range r.parts {
		for _, s := range p.samples {
			fmt.Fprintf(w, "%s\t%s\t%d\t%d\n", p.name, s.Series, s.Round, s.Time.Microseconds())
		}
	}
	return nil
}
