package contest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// Fact is a circumstance that a number may depend on, or a number that is no
// time.
type Fact struct{ Name, Value string }

// Report is what a run leaves: facts, the table, every sample.
type Report struct {
	Facts []Fact
	lines []Line
	parts []played
}

type played struct {
	name    string
	samples Samples
}

// Add takes in the samples of a part that was played, and what is compared of
// them.
func (r *Report) Add(part string, lines []Comparison, s Samples) error {
	r.parts = append(r.parts, played{part, s})
	for _, c := range lines {
		l, err := c.Line(s)
		if err != nil {
			return err
		}
		r.lines = append(r.lines, l)
	}
	return nil
}

// Publish prints the table and writes it with all samples into a file of dir,
// unless that is "". The file is named after the prefix and the time, and its path
// is returned.
func (r *Report) Publish(dir, prefix string) (path string, err error) {
	if err := Table(os.Stdout, r.lines); err != nil || dir == "" {
		return "", err
	}
	path = filepath.Join(dir, prefix+time.Now().UTC().Format("2006-01-02T1504")+".tsv")
	var b bytes.Buffer
	if err := r.write(&b); err != nil {
		return "", err
	}
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(path, b.Bytes(), 0o644)); err != nil {
		return "", fmt.Errorf("write samples: %w", err)
	}
	return path, nil
}

// write prints facts and table as lines that start with #, and then a line a
// sample: part, series, round, microseconds, separated by tabs.
func (r *Report) write(w io.Writer) error {
	var table bytes.Buffer
	if err := Table(&table, r.lines); err != nil {
		return err
	}
	for _, f := range r.Facts {
		fmt.Fprintf(w, "# %s: %s\n", f.Name, f.Value)
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
