package observability_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"
	"sigs.k8s.io/yaml"
)

const alerts = "../../deployment/alerts"

// rules reads and checks the alert rules, by their names.
func rules(t *testing.T, file string) map[string]rulefmt.Rule {
	t.Helper()
	groups, errs := rulefmt.ParseFile(filepath.Join(alerts, file), false, model.UTF8Validation)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	out := map[string]rulefmt.Rule{}
	for _, g := range groups.Groups {
		for _, r := range g.Rules {
			out[r.Alert] = r
		}
	}
	return out
}

// unitTests is the form of `promtool test rules`, as far as it is used here.
type unitTests struct {
	RuleFiles          []string `json:"rule_files"`
	EvaluationInterval string   `json:"evaluation_interval"`
	Tests              []struct {
		Name        string `json:"name"`
		Interval    string `json:"interval"`
		InputSeries []struct {
			Series string `json:"series"`
			Values string `json:"values"`
		} `json:"input_series"`
		AlertRuleTest []struct {
			EvalTime  string `json:"eval_time"`
			Alertname string `json:"alertname"`
			ExpAlerts []struct {
				ExpLabels map[string]string `json:"exp_labels"`
			} `json:"exp_alerts"`
		} `json:"alert_rule_test"`
	} `json:"tests"`
}

// TestAlertsFireAndAreSilent plays the unit tests with Prometheus' own engine. Each
// alert has to fire in one of them and to be silent in another.
func TestAlertsFireAndAreSilent(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(alerts, "tendril_test.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var file unitTests
	if err := yaml.UnmarshalStrict(data, &file); err != nil {
		t.Fatal(err)
	}
	all := rules(t, file.RuleFiles[0])
	fired, silent := map[string]bool{}, map[string]bool{}
	for _, test := range file.Tests {
		t.Run(test.Name, func(t *testing.T) {
			var memory series
			for _, s := range test.InputSeries {
				memory.add(t, s.Series, s.Values)
			}
			for _, want := range test.AlertRuleTest {
				rule, ok := all[want.Alertname]
				if !ok {
					t.Errorf("there is no alert %s", want.Alertname)
					continue
				}
				at, err := time.ParseDuration(want.EvalTime)
				if err != nil {
					t.Fatal(err)
				}
				expected := []string{}
				for _, a := range want.ExpAlerts {
					expected = append(expected, fmt.Sprint(a.ExpLabels))
				}
				if d := cmp.Diff(expected, memory.firing(t, rule, at)); d != "" {
					t.Errorf("%s at %s (-want +got):\n%s", want.Alertname, at, d)
				}
				fired[want.Alertname] = fired[want.Alertname] || len(expected) > 0
				silent[want.Alertname] = silent[want.Alertname] || len(expected) == 0
			}
		})
	}
	for name := range all {
		if !fired[name] || !silent[name] {
			t.Errorf("alert %s: fires in a test: %v, is silent in one: %v", name, fired[name], silent[name])
		}
	}
}

// series is a storage of a few series with a sample a minute from 1970 on.
type series []promql.Series

func (s *series) add(t *testing.T, name, values string) {
	t.Helper()
	lset, list, err := parser.ParseSeriesDesc(name + " " + values)
	if err != nil {
		t.Fatal(err)
	}
	one := promql.Series{Metric: lset}
	for i, v := range list {
		if !v.Omitted {
			one.Floats = append(one.Floats, promql.FPoint{T: int64(i) * time.Minute.Milliseconds(), F: v.Value})
		}
	}
	*s = append(*s, one)
}

var engine = promql.NewEngine(promql.EngineOpts{MaxSamples: 1e6, Timeout: time.Minute})

// firing evaluates r every minute up to at, and returns the label sets of the
// alerts that have been true for as long as r wants, printed and sorted.
func (s series) firing(t *testing.T, r rulefmt.Rule, at time.Duration) []string {
	t.Helper()
	since := map[string]time.Duration{}
	for now := time.Duration(0); now <= at; now += time.Minute {
		q, err := engine.NewInstantQuery(t.Context(), storage.QueryableFunc(s.querier), nil, r.Expr, time.UnixMilli(0).Add(now))
		if err != nil {
			t.Fatal(err)
		}
		result := q.Exec(t.Context())
		vector, err := result.Vector()
		if err != nil {
			t.Fatalf("%s: %v", r.Alert, err)
		}
		still := map[string]time.Duration{}
		for _, sample := range vector {
			key := fmt.Sprint(labelsOf(sample.Metric, r.Labels))
			still[key] = now
			if began, ok := since[key]; ok {
				still[key] = began
			}
		}
		since = still
		q.Close()
	}
	out := []string{}
	for key, began := range since {
		if at-began >= time.Duration(r.For) {
			out = append(out, key)
		}
	}
	slices.Sort(out)
	return out
}

func labelsOf(metric labels.Labels, more map[string]string) map[string]string {
	out := map[string]string{}
	metric.Range(func(l labels.Label) {
		if l.Name != model.MetricNameLabel {
			out[l.Name] = l.Value
		}
	})
	for k, v := range more {
		out[k] = v
	}
	return out
}

func (s series) querier(int64, int64) (storage.Querier, error) {
	return &storage.MockQuerier{SelectMockFunction: func(_ bool, _ *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
		var found set
		for _, one := range s {
			if !slices.ContainsFunc(matchers, func(m *labels.Matcher) bool { return !m.Matches(one.Metric.Get(m.Name)) }) {
				found.list = append(found.list, one)
			}
		}
		return &found
	}}, nil
}

// set walks over found series.
type set struct {
	list []promql.Series
	next int
}

func (s *set) Next() bool                        { s.next++; return s.next <= len(s.list) }
func (s *set) At() storage.Series                { return promql.NewStorageSeries(s.list[s.next-1]) }
func (s *set) Err() error                        { return nil }
func (s *set) Warnings() annotations.Annotations { return nil }
