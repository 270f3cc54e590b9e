package foreign

import (
	"strings"
	"testing"

	"github.com/tendril-cni/tendril/cni/netns/netnstest"
)

// TestInvariant2PluginThatIsNotThereIsOwedNoDEL: what ran before it in the chain is
// undone by the ADD that failed, and nothing stays that every DEL would fail on
// until somebody installs the plugin.
func TestInvariant2PluginThatIsNotThereIsOwedNoDEL(t *testing.T) {
	s := newShared(t, `{"type":"frobnicate"}`, `{"type":"tuning"}`)
	v := s.serve(false)
	pod := netnstest.Pod(t)
	_, failure := s.shim.call("ADD", "c1", pod)
	if failure == nil || !strings.Contains(failure.Msg, `value "frobnicate" is not allowed; allowed: an executable in`) || strings.Contains(failure.Msg, "undo") {
		t.Errorf("ADD: %v, want the plugin and where it is looked for, and no failed undo", failure)
	}
	netnstest.Absent(t, netnstest.Handle(t, pod), "eth0")
	if left := s.taken(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	s.shim.must("DEL", "c1", pod)
	if held := s.held(v); held != "" {
		t.Errorf("the journal holds %s", held)
	}
}
