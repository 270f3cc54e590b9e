package program

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Measured runs p for one round and wants a file with every line of parts, both of
// its sides, and each of facts, once. How fast it was is nobody's business there.
func Measured[S any](t *testing.T, p Program, bin string, parts []Part[S], facts ...string) {
	t.Helper()
	r := &Run{Rounds: 1, Bin: bin, Out: t.TempDir()}
	if err := p.Run(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(r.Out, p.prefix()+"*.tsv"))
	if err != nil || len(files) != 1 {
		t.Fatalf("files %v, error %v; want one", files, err)
	}
	data, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	var wants []string
	for _, part := range parts {
		for _, line := range part.Lines {
			wants = append(wants, "# "+line.Name+" ", "\n"+part.Name+"\t"+line.Ours+"\t0\t", "\n"+part.Name+"\t"+line.Reference+"\t0\t")
		}
	}
	for _, f := range facts {
		wants = append(wants, "# "+f+": ")
	}
	for _, want := range wants {
		if strings.Count(string(data), want) != 1 {
			t.Errorf("the file does not have %q once:\n%s", want, data)
		}
	}
}
