package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tendril-cni/tendril/tests/bench/program"
	"github.com/tendril-cni/tendril/tests/lab"
)

func TestMain(m *testing.M) { lab.Main(m) }

// One round of everything; how fast it was is nobody's business here.
func TestEverythingIsMeasured(t *testing.T) {
	*calls = 100
	r := &program.Run{Rounds: 1, Bin: t.TempDir(), Out: t.TempDir()}
	if err := bench.Run(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(r.Out, "vf-*.tsv"))
	if err != nil || len(files) != 1 {
		t.Fatalf("files %v, error %v; want one", files, err)
	}
	data, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range parts {
		for _, line := range p.Lines {
			for _, want := range []string{"# " + line.Name + " ", "\n" + p.Name + "\t" + line.Ours + "\t0\t", "\n" + p.Name + "\t" + line.Reference + "\t0\t"} {
				if strings.Count(string(data), want) != 1 {
					t.Errorf("the file does not have %q once:\n%s", want, data)
				}
			}
		}
	}
}
