package node

import (
	"log/slog"
	"testing"

	"github.com/tendril-cni/tendril/tests/observability"
)

func TestEveryMetricIsDocumented(t *testing.T) {
	d := &daemon{Config: Config{Version: "v", Log: slog.New(slog.DiscardHandler)}, counts: newCounts(), offer: &offer{}}
	observability.Compare(t, observability.Node, d.metrics())
}
