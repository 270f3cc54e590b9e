package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tendril-cni/tendril/tests/bench/contest"
	"github.com/tendril-cni/tendril/tests/meta/fault"
)

// leastCalls counts the daemon's calls when it is asked to leave out the event, in
// which Multus' users look, that says what the status says.
func (s *stand) leastCalls(ctx context.Context) ([]contest.Fact, error) {
	s.flags = []string{"--no-interface-events"}
	if err := s.start(ctx, true); err != nil {
		return nil, err
	}
	facts, err := s.callsOf(ctx, s.sides[0])
	for i := range facts {
		facts[i].Name += " and " + strings.Join(s.flags, " ")
	}
	return facts, err
}

// calls counts what the API server is asked for one pod with all networks.
func (s *stand) calls(ctx context.Context) ([]contest.Fact, error) {
	return s.callsOf(ctx, s.sides...)
}

func (s *stand) callsOf(ctx context.Context, sides ...*side) ([]contest.Fact, error) {
	var facts []contest.Fact
	for _, one := range sides {
		pods, err := s.sandboxes(ctx, one, 1, definitions)
		if err != nil {
			return nil, err
		}
		for _, phase := range []struct {
			name string
			call func(*sandbox, context.Context) (time.Duration, error)
			done func() error
		}{
			{"ADD", (*sandbox).add, func() error { return s.attached(ctx, pods[0]) }},
			{"DEL", (*sandbox).del, func() error { return pods[0].has(0) }},
		} {
			one.quiet(ctx)
			_, err := phase.call(pods[0], ctx)
			if err == nil {
				err = phase.done()
			}
			if err != nil {
				return nil, fmt.Errorf("%s: %w", one.name, err)
			}
			facts = append(facts, contest.Fact{Name: fmt.Sprintf("API calls of %s, %s with %d networks", one.name, phase.name, definitions), Value: summary(one.quiet(ctx))})
		}
		if err := s.forget(ctx, pods); err != nil {
			return nil, err
		}
	}
	return facts, nil
}

// quiet returns the calls about namespaced objects up to two seconds in which there
// was none: pods, events and definitions, but not what a daemon has to say of its
// node every now and then.
func (o *side) quiet(ctx context.Context) []fault.Call {
	var calls []fault.Call
	for none := 0; none < 8 && ctx.Err() == nil; none++ {
		for _, c := range o.proxy.Calls() {
			if strings.Contains(c.Path, "/namespaces/") {
				calls, none = append(calls, c), -1
			}
		}
		pause(ctx, 250*time.Millisecond)
	}
	return calls
}

// summary is how often what was done to which kind of object.
func summary(calls []fault.Call) string {
	counts := map[string]int{}
	for _, c := range calls {
		counts[c.Method+" "+kind(c.Path)]++
	}
	parts := []string{fmt.Sprint(len(calls))}
	for _, k := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%d %s", counts[k], k))
	}
	return strings.Join(parts, ", ")
}

// kind takes the names out of a path of the API server.
func kind(path string) string {
	parts := strings.Split(strings.TrimPrefix(path, "/"), "/")
	for i, p := range parts {
		if p == "namespaces" && i+2 < len(parts) {
			rest := parts[i+2:]
			if len(rest) > 1 {
				rest[1] = "*"
			}
			return strings.Join(rest, "/")
		}
	}
	return path
}
