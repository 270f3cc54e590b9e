package crash

import (
	"testing"

	"github.com/tendril-cni/tendril/tests/crash/sweep"
)

func TestMain(m *testing.M) { sweep.Main(m) }
