package kube_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/tendril-cni/tendril/cni/kube"
)

func TestWarningsAreEvents(t *testing.T) {
	w := newWorld(t)
	r, stop := w.reporter(w.cache(kube.Options{}), nil)
	defer stop()
	pod := w.create("web", node, nil)
	r.Warned(ref(pod), "network blue/vlan declares no capability mac")
	want := []string{"Warning UndeclaredCapability x1: network blue/vlan declares no capability mac"}
	w.eventually("the event is there", func() bool { return slices.Equal(w.events(pod), want) })
}

// TestDefinitionThatIsNotWaitedFor: with a context that has ended, the answer is
// what is known.
func TestDefinitionThatIsNotWaitedFor(t *testing.T) {
	w := newWorld(t)
	c := w.cache(kube.Options{DefinitionWait: time.Hour})
	w.define("known", "{}", "")
	if _, err := c.Definition(w.within(patience), w.namespace, "known"); err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if d, err := c.Definition(ended, w.namespace, "known"); err != nil || d.Name != "known" {
		t.Errorf("got %+v, %v", d, err)
	}
	if _, err := c.Definition(ended, w.namespace, "unknown"); !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v, want that of the context", err)
	}
}
