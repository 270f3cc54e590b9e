package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/macvlan"
	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/tests/bench/contest"
	"github.com/tendril-cni/tendril/tests/bench/host"
)

// attachPart is the driver inside the daemon: from Prior to the observed link,
// beside the bare messages that make the same link.
var attachPart = part{
	Name: "the macvlan driver in process",
	Lines: []contest.Comparison{
		{Name: "macvlan attach in process, to bare netlink", Ours: "driver attach", Reference: "bare create", Goal: 2},
	},
	Play: playAttach,
}

func playAttach(ctx context.Context, s *stand, rounds int) (contest.Samples, error) {
	driver := macvlan.New(slog.New(slog.DiscardHandler))
	bare := newKernel(s.pods.Home(), s.master.Attrs().Index)
	return contest.Play(ctx, rules(rounds),
		func(ctx context.Context, round int) ([]contest.Took, error) {
			rec := cni.Record{Attachment: attachment(round), Phase: cni.Intent}
			return s.madeAndTaken("driver attach", func(p host.Pod) error {
				prior, err := driver.Prior(ctx, rec.Attachment)
				if err != nil {
					return err
				}
				rec.Prior = prior
				rec.Link, err = driver.Attach(ctx, p.File, rec)
				return err
			}, func(p host.Pod) error { return driver.Detach(ctx, p.File, rec) })
		},
		func(context.Context, int) ([]contest.Took, error) {
			return s.madeAndTaken("bare create", func(p host.Pod) error { return bare.create(p.File) }, func(p host.Pod) error {
				_, err := bare.remove(p.File)
				return err
			})
		})
}

// madeAndTaken times the making of a link in a fresh pod, and takes it away
// again without timing that.
func (s *stand) madeAndTaken(series string, make, take func(host.Pod) error) ([]contest.Took, error) {
	p, err := s.pods.Fresh()
	if err != nil {
		return nil, err
	}
	start := time.Now()
	err = make(p)
	took := time.Since(start)
	if err == nil {
		err = p.Has(bareName, true)
	}
	if err == nil {
		err = take(p)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", series, err)
	}
	return []contest.Took{{Series: series, Time: took}}, nil
}

// attachment asks for the link that kernel makes too.
func attachment(round int) cni.Attachment {
	raw, _ := json.Marshal(map[string]string{"type": "macvlan", "master": master}) // strings cannot fail
	ip := func(b []byte) netip.Addr { a, _ := netip.AddrFromSlice(b); return a }
	return cni.Attachment{
		ContainerID: fmt.Sprintf("container%d", round), IfName: bareName, Pod: cni.PodRef{Namespace: "default", Name: "bench"},
		Network: "bench", Kind: cni.KindMacvlan,
		Config:    netconf.Network{Name: "bench", CNIVersion: host.CNIVersion, Plugins: []netconf.Plugin{{Type: "macvlan", Raw: raw}}},
		Addresses: []cni.Address{{Prefix: netip.PrefixFrom(ip(bareAddress), 24)}},
		Routes:    []cni.Route{{Dst: netip.PrefixFrom(netip.IPv4Unspecified(), 0), Via: ip(bareGateway)}},
		Vouched:   true,
	}
}
