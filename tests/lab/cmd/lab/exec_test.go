package main

import (
	"slices"
	"testing"
	"time"
)

func TestArgumentsOfTestBinaries(t *testing.T) {
	p := planArguments([]string{
		"-test.testlogfile=/host/log", "-test.timeout=90s", "-test.run=^TestX$", "-test.coverprofile=/host/cover.out",
		"-test.gocoverdir=/host/cover", "plain", "-other=/host/x",
	}, "/m")
	want := []string{
		"-test.timeout=90s", "-test.run=^TestX$", "-test.coverprofile=/m/coverprofile",
		"-test.gocoverdir=/m", "plain", "-other=/host/x",
	}
	if !slices.Equal(p.args, want) {
		t.Errorf("arguments are %q, want %q", p.args, want)
	}
	if p.files["/m/coverprofile"] != "/host/cover.out" || len(p.files) != 1 {
		t.Errorf("files to fetch are %v", p.files)
	}
	if d, ok := p.timeout(); !ok || d != 90*time.Second {
		t.Errorf("time-out is %v, %v", d, ok)
	}
}

func TestEnvironmentThatIsPassed(t *testing.T) {
	got := passedEnviron([]string{"PATH=/x", "TENDRIL_A=1", "TENDRIL_LAB_SOCKET=/s", "GODEBUG=x=1", "HOME=/h"})
	if want := []string{"TENDRIL_A=1", "GODEBUG=x=1"}; !slices.Equal(got, want) {
		t.Errorf("passed %q, want %q", got, want)
	}
}
