// Package suite is what the cluster suites have in common: a stage that comes up
// with the test and ends with it, scenes played in order on it, and steps that
// fail the test instead of returning an error.
//
// A suite's package embeds a *Suite, adds what is its own, and lists its scenes:
//
//	func TestMain(m *testing.M) { cluster.Main(m) }
//
//	func TestOnTheCluster(t *testing.T) {
//		p := &play{Suite: suite.Open(t, stage.Options{Nodes: 1})}
//		p.Scenes(t, suite.Scene{Name: "Invariant4ItHolds", Run: p.holds}, suite.Scene{Name: "AndThen", Run: p.then})
//	}
//
// Invariants:
//
//  1. Open returns when every daemon is ready and every VF offered; Before is how
//     the nodes were then, and Gone wants them so again.
//  2. A scene that failed is followed by what the cluster has to say. Scenes goes
//     on after it, Acts does not.
//  3. Until the stage closes, Tendril's service accounts asked the API server for
//     nothing that they may not.
//
// A Suite belongs to the goroutine of its test.
package suite
