package vrf_test

import (
	"context"
	"log/slog"
	"testing"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netns/netnstest"
	"github.com/tendril-cni/tendril/cni/vrf"
)

func TestMain(m *testing.M) { netnstest.Main(m) }

var (
	_    cni.Modifier = (*vrf.Modifier)(nil)
	ctx               = context.Background()
	mute              = slog.New(slog.DiscardHandler)
)

// TestInvariant9PriorRefuses needs no VRF in the kernel.
func TestInvariant9PriorRefuses(t *testing.T) {
	pod := netnstest.Pod(t)
	for name, test := range map[string]struct{ conf, field string }{
		"no name":    {`{}`, "vrfname"},
		"long name":  {`{"vrfname":"0123456789abcdef"}`, "vrfname"},
		"table":      {`{"vrfname":"red","table":-1}`, "table"},
		"other link": {`{"vrfname":"lo"}`, "vrfname"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := vrf.New(mute).Prior(ctx, pod, netnstest.Attachment("vrf", test.conf))
			netnstest.Refused(t, err, test.field)
		})
	}
}
