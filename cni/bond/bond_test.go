package bond_test

import (
	"context"
	"log/slog"
	"testing"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/bond"
	"github.com/tendril-cni/tendril/cni/netns/netnstest"
)

func TestMain(m *testing.M) { netnstest.Main(m) }

var (
	_   cni.Driver = (*bond.Driver)(nil)
	ctx            = context.Background()
)

func driver() *bond.Driver { return bond.New(slog.New(slog.DiscardHandler)) }

// TestInvariant9PriorRefuses needs no bonds in the kernel.
func TestInvariant9PriorRefuses(t *testing.T) {
	a, b := netnstest.Veth(t)
	links := `"links":[{"name":"` + a.Attrs().Name + `"},{"name":"` + b.Attrs().Name + `"}]`
	for name, test := range map[string]struct{ conf, field string }{
		"no mode":  {`{` + links + `}`, "mode"},
		"mode":     {`{"mode":"fast",` + links + `}`, "mode"},
		"one link": {`{"mode":"active-backup","links":[{"name":"a"}]}`, "links"},
		"twice":    {`{"mode":"active-backup","links":[{"name":"a"},{"name":"a"}]}`, "links[1].name"},
		"unknown":  {`{"mode":"active-backup","links":[{"name":"nosuch0"},{"name":"nosuch1"}]}`, "links[0].name"},
		"miimon":   {`{"mode":"active-backup","miimon":"often",` + links + `}`, "miimon"},
		"mtu":      {`{"mode":"active-backup","mtu":1501,` + links + `}`, "mtu"},
		"tlb":      {`{"mode":"active-backup","tlbDynamicLb":1,` + links + `}`, "tlbDynamicLb"},
		"failover": {`{"mode":"active-backup","failOverMac":3,` + links + `}`, "failOverMac"},
		"policy":   {`{"mode":"balance-xor","xmitHashPolicy":"layer9",` + links + `}`, "xmitHashPolicy"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := driver().Prior(ctx, netnstest.Attachment("bond", test.conf))
			netnstest.Refused(t, err, test.field)
		})
	}
}
