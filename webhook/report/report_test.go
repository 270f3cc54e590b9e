package report_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tendril-cni/tendril/webhook/report"
)

func TestWhatIsWrittenIsRead(t *testing.T) {
	for name, n := range map[string]report.Node{
		"nothing known": {},
		"nothing there": {Plugins: []string{}, Links: []string{}, Userspace: []string{}, Given: &report.Given{}},
		"all":           {Plugins: []string{"macvlan", "sriov"}, Links: []string{"eth0"}, Userspace: []string{"a/b"}, Given: &report.Given{Always: 1, Default: 2, System: []string{"kube-system"}}},
	} {
		if diff := cmp.Diff(n, report.Parse(n.Annotations())); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
}

// TestSameFactsSameText: an order or a repetition is no change.
func TestSameFactsSameText(t *testing.T) {
	a, b := report.Node{Links: []string{"b", "a", "b"}}, report.Node{Links: []string{"a", "b"}}
	if diff := cmp.Diff(a.Annotations(), b.Annotations()); diff != "" {
		t.Error(diff)
	}
}

func TestWhatCannotBeReadIsNotKnown(t *testing.T) {
	n := report.Parse(map[string]string{report.GivenAnnotation: "{", report.LinksAnnotation: " a, b,"})
	if n.Given != nil || n.Plugins != nil || len(n.Links) != 2 {
		t.Errorf("%+v", n)
	}
}

func TestGivenIn(t *testing.T) {
	g := report.Given{Always: 1, Default: 2, System: []string{"kube-system"}}
	if g.In("kube-system") != 1 || g.In("blue") != 3 {
		t.Errorf("%d, %d", g.In("kube-system"), g.In("blue"))
	}
}
