package main

import (
	"testing"

	"github.com/tendril-cni/tendril/tests/meta/fault"
)

func TestCallsAreSummedUpByKind(t *testing.T) {
	got := summary([]fault.Call{
		{Method: "PATCH", Path: "/api/v1/namespaces/default/pods/a/status"},
		{Method: "POST", Path: "/api/v1/namespaces/default/events"},
		{Method: "POST", Path: "/api/v1/namespaces/other/events"},
		{Method: "GET", Path: "/api/v1/nodes/n"},
	})
	if want := "4, 1 GET /api/v1/nodes/n, 1 PATCH pods/*/status, 2 POST events"; got != want {
		t.Errorf("summary %q, want %q", got, want)
	}
}
