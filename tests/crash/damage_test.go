package crash

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tendril-cni/tendril/cni/spool"
)

func TestInvariant3TruncatedJournal(t *testing.T) { macvlans.TruncatedJournal(t) }

func TestInvariant3FullDisk(t *testing.T) { macvlans.FullDisk(t) }

// TestInvariant2SpooledDelIsDoneBeforeTheSocketIsServed: whoever gets an answer
// from the new daemon finds the pod detached.
func TestInvariant2SpooledDelIsDoneBeforeTheSocketIsServed(t *testing.T) {
	stand, v, before := macvlans.Attached(t)
	stand.Stop(v)
	dir := filepath.Join(stand.Dir, "state", "spool")
	if err := spool.Put(dir, stand.Request("DEL")); err != nil {
		t.Fatal(err)
	}
	v = stand.Start("", -1)
	if err := stand.Call("CHECK"); err == nil {
		t.Error("CHECK finds the pod attached, and its DEL was spooled")
	}
	if got := macvlans.World(stand); got != before {
		t.Errorf("the world is\n%s\nand was\n%s", got, before)
	}
	stand.Stop(v)
	macvlans.Empty(stand, before)
	s, err := spool.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if left, err := s.List(); err != nil || len(left) != 0 {
		t.Errorf("the spool still has %v (%v)", left, err)
	}
}

// TestInvariant2DelSpooledWhileTheDaemonStartsIsDone: it may come after the
// daemon has read the spool, and before it listens.
func TestInvariant2DelSpooledWhileTheDaemonStartsIsDone(t *testing.T) {
	stand, v, before := macvlans.Attached(t)
	if err := spool.Put(filepath.Join(stand.Dir, "state", "spool"), stand.Request("DEL")); err != nil {
		t.Fatal(err)
	}
	// The links go before the records do: the DEL is done when both are gone.
	done := func() bool {
		err := stand.Call("CHECK")
		return macvlans.World(stand) == before && err != nil && strings.Contains(err.Error(), "nothing is attached")
	}
	for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a DEL that was spooled is not done")
		}
	}
	stand.Stop(v)
	macvlans.Empty(stand, before)
}

// TestInvariant2DelAfterTheNamespaceIsGone: the runtime may have lost it before.
func TestInvariant2DelAfterTheNamespaceIsGone(t *testing.T) {
	stand, v, _ := macvlans.Attached(t)
	request := stand.Request("DEL")
	if err := stand.Pod.Close(); err != nil {
		t.Fatal(err)
	}
	stand.Stop(v)
	if err := spool.Put(filepath.Join(stand.Dir, "state", "spool"), request); err != nil {
		t.Fatal(err)
	}
	v = stand.Start("", -1)
	_ = stand.CallGone("CHECK")
	stand.Stop(v)
	if got := stand.Held(); got != "" {
		t.Errorf("the journal still holds\n%s", got)
	}
}
