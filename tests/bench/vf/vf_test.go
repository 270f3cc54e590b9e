package main

import (
	"testing"

	"github.com/tendril-cni/tendril/tests/bench/program"
	"github.com/tendril-cni/tendril/tests/lab"
)

func TestMain(m *testing.M) { lab.Main(m) }

func TestEverythingIsMeasured(t *testing.T) {
	*calls = 100
	program.Measured(t, bench, t.TempDir(), parts)
}
