//go:build !lab

package sriov_test

import (
	"testing"

	"github.com/tendril-cni/tendril/cni/netns/netnstest"
)

func TestMain(m *testing.M) { netnstest.Main(m) }
