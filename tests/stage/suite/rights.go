package suite

import "testing"

// Invariant10NothingDenied wants every request that Tendril's service accounts have
// made so far, and since it was asked before, to be one that they may make: what the rights of the manifests lack
// would be seen by nobody while the components try again. Open has it asked at the
// end of every suite.
func (s *Suite) Invariant10NothingDenied(t *testing.T) {
	t.Helper()
	all, err := s.API().Audited()
	s.Must(t, err)
	all, s.audited = all[s.audited:], len(all)
	kinds, denied := map[string]bool{}, map[string]bool{}
	for _, r := range all {
		kinds[r.User+" "+r.Verb+" "+r.Resource] = true
		if r.Denied() && !denied[r.String()] {
			denied[r.String()] = true
			t.Errorf("the API server denies %s", r)
		}
	}
	if len(all) == 0 {
		t.Error("the API server wrote down no request of Tendril")
	}
	t.Logf("%d requests of %d kinds, %d of them denied", len(all), len(kinds), len(denied))
}

// ForgetRequests leaves out what was asked for so far: an installation that is taken
// away loses its rights before its last process ends.
func (s *Suite) ForgetRequests(t *testing.T) {
	t.Helper()
	all, err := s.API().Audited()
	s.Must(t, err)
	s.audited = len(all)
}
