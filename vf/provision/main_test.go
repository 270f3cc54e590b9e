//go:build !lab

package provision_test

import (
	"testing"

	"github.com/tendril-cni/tendril/cni/netns/netnstest"
)

func TestMain(m *testing.M) { netnstest.Main(m) }
