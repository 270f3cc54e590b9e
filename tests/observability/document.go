package observability

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// Sections of the document that have a table of names.
const (
	Node       = "Metrics of the node"
	Controller = "Metrics of the controller"
	LogKeys    = "Log"
	Events     = "Events"
)

// root is the module's folder, from a package's own.
func root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	for ; err == nil && dir != "/"; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
	}
	t.Fatalf("no go.mod above the working directory: %v", err)
	return ""
}

// Row is one line of a table.
type Row struct {
	// Names are those of the first column: a line may be about several.
	Names []string
	// Labels are the words in backquotes of the second column.
	Labels []string
}

var quoted = regexp.MustCompile("`([^`]+)`")

// Table returns the lines of the table in a section of the document.
func Table(t testing.TB, section string) []Row {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root(t), "docs", "observability.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, text, found := strings.Cut(string(data), "\n## "+section+"\n")
	if !found {
		t.Fatalf("docs/observability.md has no section %q", section)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	var rows []Row
	for line := range strings.SplitSeq(text, "\n") {
		cells := strings.Split(line, "|")
		if len(cells) < 3 || !strings.Contains(cells[1], "`") {
			continue
		}
		rows = append(rows, Row{Names: words(cells[1]), Labels: words(cells[2])})
	}
	return rows
}

func words(cell string) (out []string) {
	for _, m := range quoted.FindAllStringSubmatch(cell, -1) {
		out = append(out, m[1])
	}
	return out
}

var (
	descName   = regexp.MustCompile(`fqName: "([^"]*)"`)
	descLabels = regexp.MustCompile(`variableLabels: \{([^}]*)\}`)
	constNames = regexp.MustCompile(`constLabels: \{([^}]*)\}`)
)

// Exported returns the labels of every metric that c describes, by its name, but
// for those about Go and the process, which are the library's.
func Exported(c prometheus.Collector) map[string][]string {
	descs := make(chan *prometheus.Desc)
	go func() { defer close(descs); c.Describe(descs) }()
	out := map[string][]string{}
	for d := range descs {
		text := d.String()
		name := descName.FindStringSubmatch(text)[1]
		if strings.HasPrefix(name, "go_") || strings.HasPrefix(name, "process_") {
			continue
		}
		labels := []string{}
		for _, list := range []string{descLabels.FindStringSubmatch(text)[1], constNames.FindStringSubmatch(text)[1]} {
			for label := range strings.SplitSeq(list, ",") {
				label, _, _ = strings.Cut(label, "=")
				if label = strings.TrimSpace(label); label != "" {
					labels = append(labels, label)
				}
			}
		}
		out[name] = labels
	}
	return out
}

// Compare fails the test unless the table of a section has exactly the metrics of
// c with exactly their labels.
func Compare(t testing.TB, section string, c prometheus.Collector) {
	t.Helper()
	exported, documented := Exported(c), map[string]bool{}
	for _, row := range Table(t, section) {
		for _, name := range row.Names {
			documented[name] = true
			labels, ok := exported[name]
			if !ok {
				t.Errorf("%s is documented and not exported", name)
			} else if !same(labels, row.Labels) {
				t.Errorf("%s has the labels %v, documented are %v", name, labels, row.Labels)
			}
		}
	}
	for name := range exported {
		if !documented[name] {
			t.Errorf("%s is exported and not in docs/observability.md, section %q", name, section)
		}
	}
}

func same(a, b []string) bool {
	set := map[string]bool{}
	for _, x := range a {
		set[x] = true
	}
	for _, x := range b {
		if !set[x] {
			return false
		}
	}
	return len(a) == len(b)
}
