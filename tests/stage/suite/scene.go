package suite

import (
	"context"
	"testing"
	"time"
)

// Scene is one part of a suite; Name is its sub-test's.
type Scene struct {
	Name string
	Run  func(*testing.T)
}

// Scenes plays scenes that each leave the stage as they found it: one that fails
// does not keep the others from being played.
func (s *Suite) Scenes(t *testing.T, scenes ...Scene) {
	t.Helper()
	for _, scene := range scenes {
		s.play(t, scene)
	}
}

// Acts plays scenes that stand on what the ones before have left, and stops at
// the first that fails.
func (s *Suite) Acts(t *testing.T, scenes ...Scene) {
	t.Helper()
	for _, scene := range scenes {
		if !s.play(t, scene) {
			return
		}
	}
}

func (s *Suite) play(t *testing.T, scene Scene) bool {
	t.Helper()
	start := time.Now()
	ok := t.Run(scene.Name, scene.Run)
	t.Logf("%s took %.1fs", scene.Name, time.Since(start).Seconds())
	if ok {
		return true
	}
	t.Log(s.Explain())
	for n := 1; n <= s.Nodes(); n++ {
		t.Log(s.Logs(context.WithoutCancel(s.Ctx), n))
	}
	return false
}
