package forecast_test

import (
	"net/netip"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tendril-cni/tendril/ipam"
	"github.com/tendril-cni/tendril/ipam/forecast"
	"github.com/tendril-cni/tendril/ipam/v1alpha1"
)

func TestTallyCountsEachRangeOfItsSpace(t *testing.T) {
	now := time.Now()
	later, before := metav1.NewTime(now.Add(time.Minute)), metav1.NewTime(now.Add(-time.Minute))
	c, err := ipam.Parse([]byte(`{"type":"tendril","network":"blue","ranges":[{"subnet":"10.0.0.0/28","gateway":"10.0.0.1"},{"subnet":"10.0.0.0/24"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	var ranges []forecast.Range
	for i, set := range c.Cluster.Sets {
		ranges = append(ranges, forecast.Range{Network: "a/n", Index: i, Space: "blue", Set: set})
	}
	cell := ipam.CellOf(netip.MustParseAddr("10.0.0.0"))
	b := v1alpha1.New("blue", cell)
	for i, s := range []v1alpha1.Slot{{Node: "n1"}, {Node: "n2"}, {Claim: "a/c"}, {Until: &later}, {Until: &before}} {
		s.Slot = 2 + i
		b.Set(s)
	}
	b.Set(v1alpha1.Slot{Slot: 40, Node: "n1"})
	stranger := v1alpha1.New("", cell)
	stranger.Set(v1alpha1.Slot{Slot: 3, Node: "n1"})
	tally := forecast.NewTally(ranges)
	tally.Add(b, now)
	tally.Add(stranger, now)
	var got []forecast.Use
	tally.Each(func(_ forecast.Range, u forecast.Use) { got = append(got, u) })
	want := []forecast.Use{
		{Capacity: 13, Nodes: 2, Claims: 1, Quarantined: 1},
		{Capacity: 254, Nodes: 3, Claims: 1, Quarantined: 1},
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("range %d: %+v, want %+v", i, got[i], want[i])
		}
	}
}

func TestTrendSaysWhenARangeIsFull(t *testing.T) {
	start := time.Unix(1000, 0)
	for name, c := range map[string]struct {
		taken    func(minute int) uint64
		capacity uint64
		in       time.Duration
		ok       bool
	}{
		"rising by one a minute": {func(m int) uint64 { return uint64(m) }, 100, 41 * time.Minute, true},
		"steady":                 {func(int) uint64 { return 50 }, 100, 0, false},
		"falling":                {func(m int) uint64 { return uint64(90 - m) }, 100, 0, false},
		"full":                   {func(int) uint64 { return 100 }, 100, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			var trend forecast.Trend
			for m := range 60 {
				trend.Add(start.Add(time.Duration(m)*time.Minute), c.taken(m))
			}
			in, ok := trend.Full(c.capacity)
			if ok != c.ok || in.Round(time.Second) != c.in {
				t.Errorf("full in %v, %v; want %v, %v", in, ok, c.in, c.ok)
			}
		})
	}
	var short forecast.Trend
	short.Add(start, 0)
	short.Add(start.Add(time.Minute), 50)
	if in, ok := short.Full(100); ok {
		t.Errorf("one minute tells %v", in)
	}
}

func TestTrendForgetsWhatIsLongAgo(t *testing.T) {
	var trend forecast.Trend
	start := time.Unix(1000, 0)
	for m := range 120 { // an hour of growth, then an hour of peace
		trend.Add(start.Add(time.Duration(m)*time.Minute), uint64(min(m, 58)))
	}
	if in, ok := trend.Full(100); ok {
		t.Errorf("full in %v, and nothing was taken for an hour", in)
	}
}
