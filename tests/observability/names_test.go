package observability_test

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/tendril-cni/tendril/tests/observability"
)

// documented are the labels of every metric of the document. What is documented
// is exported: node and controller have a test of that each.
func documented(t *testing.T) map[string]map[string]bool {
	t.Helper()
	out := map[string]map[string]bool{}
	for _, section := range []string{observability.Node, observability.Controller} {
		for _, row := range observability.Table(t, section) {
			for _, name := range row.Names {
				out[name] = map[string]bool{"instance": true, "job": true, "le": true}
				for _, l := range row.Labels {
					out[name][l] = true
				}
			}
		}
	}
	return out
}

var histogram = regexp.MustCompile(`_(bucket|sum|count)$`)

// check fails the test when an expression does not parse, or asks for a metric or a
// label that there is not.
func check(t *testing.T, where, expr string) {
	t.Helper()
	e, err := parser.ParseExpr(expr)
	if err != nil {
		t.Errorf("%s: %s: %v", where, expr, err)
		return
	}
	all := documented(t)
	known := map[string]bool{}
	parser.Inspect(e, func(n parser.Node, _ []parser.Node) error {
		v, ok := n.(*parser.VectorSelector)
		if !ok {
			return nil
		}
		has, ok := all[v.Name]
		if !ok {
			has, ok = all[histogram.ReplaceAllString(v.Name, "")]
		}
		if !ok {
			t.Errorf("%s asks for %s, which nobody exports", where, v.Name)
		}
		for l := range has {
			known[l] = true
		}
		for _, m := range v.LabelMatchers {
			if m.Name != model.MetricNameLabel && !has[m.Name] {
				t.Errorf("%s asks for label %s of %s, which has none", where, m.Name, v.Name)
			}
		}
		return nil
	})
	parser.Inspect(e, func(n parser.Node, _ []parser.Node) error {
		var by []string
		switch n := n.(type) {
		case *parser.AggregateExpr:
			by = n.Grouping
		case *parser.BinaryExpr:
			if n.VectorMatching != nil {
				by = n.VectorMatching.MatchingLabels
			}
		}
		for _, l := range by {
			if !known[l] {
				t.Errorf("%s groups by %s, which none of its metrics has", where, l)
			}
		}
		return nil
	})
}

func TestAlertsUseWhatIsExported(t *testing.T) {
	for name, r := range rules(t, "tendril.yaml") {
		check(t, name, r.Expr)
		if r.Annotations["summary"] == "" || r.Annotations["description"] == "" || r.Labels["severity"] == "" {
			t.Errorf("alert %s: summary, description (what to do) and severity are needed: %v %v", name, r.Annotations, r.Labels)
		}
	}
}

// dashboard is what of Grafana's form has a meaning here.
type dashboard struct {
	Templating struct {
		List []struct{ Name, Type, Query string }
	}
	Panels []struct {
		ID                       int
		Type, Title, Description string
		Datasource               struct{ UID string }
		GridPos                  struct{ H, W, X, Y int }
		Targets                  []struct{ Expr, LegendFormat string }
	}
}

var (
	variable    = regexp.MustCompile(`\$\{?(\w+)\}?`)
	labelValues = regexp.MustCompile(`^label_values\((\w+), (\w+)\)$`)
	inLegend    = regexp.MustCompile(`\{\{(\w+)\}\}`)
)

func TestDashboardUsesWhatIsExported(t *testing.T) {
	data, err := os.ReadFile("../../deployment/grafana/tendril.json")
	if err != nil {
		t.Fatal(err)
	}
	var d dashboard
	if err := json.Unmarshal(data, &d); err != nil {
		t.Fatal(err)
	}
	variables := map[string]bool{"__rate_interval": true}
	for _, v := range d.Templating.List {
		variables[v.Name] = true
		if m := labelValues.FindStringSubmatch(v.Query); m != nil {
			check(t, "variable "+v.Name, m[1]+`{`+m[2]+`!=""}`)
		} else if v.Type == "query" {
			t.Errorf("variable %s: query %q is not of the form label_values(metric, label)", v.Name, v.Query)
		}
	}
	ids, where := map[int]bool{}, map[[2]int]string{}
	for _, p := range d.Panels {
		if ids[p.ID] {
			t.Errorf("panel %q: id %d is taken", p.Title, p.ID)
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := where[[2]int{x, y}]; other != "" || x >= 24 {
					t.Fatalf("panel %q lies on %q, or beside the grid", p.Title, other)
				}
				where[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		if len(p.Targets) == 0 || p.Description == "" || p.Datasource.UID != "${datasource}" {
			t.Errorf("panel %q needs targets, a description and the chosen data source", p.Title)
		}
		for _, target := range p.Targets {
			expr := variable.ReplaceAllStringFunc(target.Expr, func(v string) string {
				name := variable.FindStringSubmatch(v)[1]
				if !variables[name] {
					t.Errorf("panel %q: there is no variable %s", p.Title, name)
				}
				if name == "__rate_interval" {
					return "5m"
				}
				return ".*"
			})
			check(t, "panel "+p.Title, expr)
			for _, m := range inLegend.FindAllStringSubmatch(target.LegendFormat, -1) {
				if !strings.Contains(target.Expr, m[1]) && !strings.HasPrefix(target.Expr, "tendril_") && !strings.Contains(target.Expr, "rate(sriov_vf_") {
					t.Errorf("panel %q: the legend has %s, which the query does not keep", p.Title, m[1])
				}
			}
		}
	}
}

// TestEveryStepIsDocumented reads the names of steps in package cni.
func TestEveryStepIsDocumented(t *testing.T) {
	known := map[string]bool{}
	for _, row := range observability.Table(t, "Flight recorder") {
		for _, name := range row.Names {
			known[name] = true
		}
	}
	source, err := os.ReadFile("../../cni/flight.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^\s+Step\w+\s+= "(\w+)"`).FindAllStringSubmatch(string(source), -1) {
		if !known[m[1]] {
			t.Errorf("step %s is not in docs/observability.md", m[1])
		}
		delete(known, m[1])
	}
	for name := range known {
		t.Errorf("step %s is documented and there is none", name)
	}
}
