//go:build lab

package ipvlan_test

import (
	"log/slog"
	"testing"

	"github.com/tendril-cni/tendril/cni/ipvlan"
	"github.com/tendril-cni/tendril/cni/netns/netnstest"
)

func TestCheckSeesWhatIsGone(t *testing.T) {
	netnstest.Checked(t, "ipvlan", ipvlan.New(slog.New(slog.DiscardHandler)))
}
