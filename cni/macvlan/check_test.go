package macvlan_test

import (
	"log/slog"
	"testing"

	"github.com/tendril-cni/tendril/cni/macvlan"
	"github.com/tendril-cni/tendril/cni/netns/netnstest"
)

func TestCheckSeesWhatIsGone(t *testing.T) {
	netnstest.Checked(t, "macvlan", macvlan.New(slog.New(slog.DiscardHandler)))
}
