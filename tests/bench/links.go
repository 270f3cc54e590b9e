package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/macvlan"
	"github.com/tendril-cni/tendril/cni/netns/stacked"
	"github.com/tendril-cni/tendril/tests/bench/contest"
	"github.com/tendril-cni/tendril/tests/bench/host"
)

const (
	// several is how many links a pod with several has, crowd how many pods come at
	// once.
	several = 4
	crowd   = 64
)

// linksPart is the driver with several links and with two families, beside the
// kernel's floor and the reference plugins.
var linksPart = part{
	Name: "several links of a pod, two families",
	Lines: []contest.Comparison{
		{Name: "4 macvlans attached in process, to bare netlink", Ours: "4 links", Reference: "4 bare links", Goal: 1.5},
		{Name: "dual stack in process, to single stack", Ours: "dual stack", Reference: "single stack", Goal: 2},
		{Name: "4 macvlans detached in process, to 4 reference DELs", Ours: "4 links gone", Reference: "4 reference DELs", Goal: 1. / 4},
	},
	Play: playLinks,
}

// executablesPart is tendril-cni by the name macvlan, with host-local in it.
var executablesPart = part{
	Name: "the executables",
	Lines: []contest.Comparison{
		{Name: "executable ADD, to reference macvlan + host-local", Ours: "executable ADD", Reference: "reference ADD", Goal: 1. / 3},
		{Name: "executable DEL, to reference macvlan + host-local", Ours: "executable DEL", Reference: "reference DEL"},
	},
	Play: playExecutables,
}

// crowdPart is 64 pods, one after the other.
var crowdPart = part{
	Name: "64 pods",
	Lines: []contest.Comparison{
		{Name: "64 pods attached in process, to 64 reference ADDs", Ours: "64 attached", Reference: "64 reference ADDs", Goal: 1. / 20},
	},
	Play: playCrowd,
}

// podOf is what the engine does for one pod: each link attached, from Prior to
// what was observed.
type podOf struct {
	driver  *macvlan.Driver
	records []cni.Record
}

func newPodOf(round, links int, dual bool) *podOf {
	p := &podOf{driver: macvlan.New(slog.New(slog.DiscardHandler))}
	for i := range links {
		a := attachment(round)
		a.IfName = nameOf(i)
		ip := a.Addresses[0].Prefix.Addr().As4()
		ip[2] += byte(i)
		a.Addresses[0].Prefix = netip.PrefixFrom(netip.AddrFrom4(ip), 24)
		if i > 0 {
			a.Routes = nil
		}
		if dual {
			a.Addresses = append(a.Addresses, cni.Address{Prefix: netip.MustParsePrefix("2001:db8:60::5/64")})
			a.Routes = append(a.Routes, cni.Route{Dst: netip.MustParsePrefix("::/0"), Via: netip.MustParseAddr("2001:db8:60::1")})
		}
		p.records = append(p.records, cni.Record{Attachment: a, Phase: cni.Intent})
	}
	return p
}

func (p *podOf) attach(ctx context.Context, ns *os.File) (err error) {
	for i := range p.records {
		r := &p.records[i]
		if r.Prior, err = p.driver.Prior(ctx, r.Attachment); err != nil {
			return err
		}
		if r.Link, err = p.driver.Attach(ctx, ns, *r); err != nil {
			return err
		}
	}
	return nil
}

func (p *podOf) detach(ctx context.Context, ns *os.File) error {
	if err := stacked.Sweep(ctx, ns, p.records, slog.New(slog.DiscardHandler)); err != nil {
		return err
	}
	for i := range p.records {
		if err := p.driver.Detach(ctx, ns, p.records[len(p.records)-1-i]); err != nil {
			return err
		}
	}
	return nil
}

func playLinks(ctx context.Context, s *stand, rounds int) (contest.Samples, error) {
	floor := newKernelOf(s.pods.Home(), s.master.Attrs().Index, several)
	reference, err := s.reference()
	if err != nil {
		return nil, err
	}
	ours := func(series string, links int, dual bool) contest.Side {
		return func(ctx context.Context, round int) ([]contest.Took, error) {
			pod := newPodOf(round, links, dual)
			var gone time.Duration
			took, err := s.madeAndTaken(series, func(p host.Pod) error { return pod.attach(ctx, p.File) }, func(p host.Pod) error {
				start := time.Now()
				err := pod.detach(ctx, p.File)
				gone = time.Since(start)
				return err
			})
			return append(took, contest.Took{Series: series + " gone", Time: gone}), err
		}
	}
	return contest.Play(ctx, rules(rounds),
		ours("4 links", several, false),
		func(context.Context, int) ([]contest.Took, error) {
			// The links go with the namespace.
			return s.madeAndTaken("4 bare links", func(p host.Pod) error { return floor.create(p.File) }, func(host.Pod) error { return nil })
		},
		ours("single stack", 1, false),
		ours("dual stack", 1, true),
		func(ctx context.Context, round int) ([]contest.Took, error) {
			return s.severalOf(ctx, reference, round)
		})
}

// severalOf gives a pod several links by the reference and times their DELs.
func (s *stand) severalOf(ctx context.Context, c host.Caller, round int) ([]contest.Took, error) {
	p, err := s.pods.Fresh()
	if err != nil {
		return nil, err
	}
	id := fmt.Sprintf("several%d", s.pods.Len())
	var confs [][]byte
	for i := range several {
		c.IfName = nameOf(i)
		result, _, err := c.Call(ctx, "ADD", p, id, "", c.Conf)
		if err != nil {
			return nil, err
		}
		conf, err := host.WithResult(c.Conf, result)
		if err != nil {
			return nil, err
		}
		confs = append(confs, conf)
	}
	var total time.Duration
	for i, conf := range confs {
		c.IfName = nameOf(i)
		_, took, err := c.Call(ctx, "DEL", p, id, "", conf)
		if err != nil {
			return nil, err
		}
		total += took
	}
	return []contest.Took{{Series: "4 reference DELs", Time: total}}, nil
}

// reference is the reference's macvlan with host-local. Its addresses count for
// the subnet's routes only, so the pods' links do not ask for a default route.
func (s *stand) reference() (host.Caller, error) {
	conf := macvlanConf(severalSubnet)
	delete(conf["ipam"].(map[string]any), "routes")
	text, err := json.Marshal(named(conf))
	return host.Caller{Plugin: filepath.Join(s.plugins, "macvlan"), Conf: text, Path: s.plugins, IfName: ifName}, err
}

// playExecutables has the executables' own records on a tmpfs, as the reference's
// are: /var/lib/cni is hidden from this process, and from what it starts, meanwhile.
func playExecutables(ctx context.Context, s *stand, rounds int) (samples contest.Samples, err error) {
	const state = "/var/lib"
	if err := unix.Mount("tmpfs", state, "tmpfs", 0, "mode=0755"); err != nil {
		return nil, fmt.Errorf("mount a tmpfs on %s: %w", state, err)
	}
	defer func() { err = errors.Join(err, unix.Unmount(state, unix.MNT_DETACH)) }()
	text := func(subnet string) []byte {
		out, _ := json.Marshal(named(macvlanConf(subnet))) // strings cannot fail
		return out
	}
	ours := host.Caller{Plugin: filepath.Join(s.bin, "cni", "macvlan"), Conf: text(oursSubnet), Path: filepath.Join(s.bin, "cni"), IfName: ifName}
	theirs := host.Caller{Plugin: filepath.Join(s.plugins, "macvlan"), Conf: text(referenceSubnet), Path: s.plugins, IfName: ifName}
	return contest.Play(ctx, rules(rounds), s.lives("executable", ours), s.lives("reference", theirs))
}

func playCrowd(ctx context.Context, s *stand, rounds int) (contest.Samples, error) {
	theirs, err := s.reference()
	if err != nil {
		return nil, err
	}
	r := rules(max(rounds/20, 1))
	r.Warm = 0
	return contest.Play(ctx, r,
		func(ctx context.Context, round int) ([]contest.Took, error) {
			return s.crowded("64 attached", func(i int, p host.Pod) error {
				return newPodOf(round*crowd+i, 1, false).attach(ctx, p.File)
			})
		},
		func(ctx context.Context, round int) ([]contest.Took, error) {
			return s.crowded("64 reference ADDs", func(i int, p host.Pod) error {
				_, _, err := theirs.Call(ctx, "ADD", p, fmt.Sprintf("crowd%d-%d", round, i), "", theirs.Conf)
				return err
			})
		})
}

// crowded makes the pods beforehand and times what is done to all of them. What
// they get goes with them.
func (s *stand) crowded(series string, do func(i int, p host.Pod) error) ([]contest.Took, error) {
	var pods []host.Pod
	for range crowd {
		p, err := s.pods.Fresh()
		if err != nil {
			return nil, err
		}
		pods = append(pods, p)
	}
	start := time.Now()
	for i, p := range pods {
		if err := do(i, p); err != nil {
			return nil, fmt.Errorf("%s: %w", series, err)
		}
	}
	took := time.Since(start)
	for _, p := range pods {
		if err := p.Has(ifName, true); err != nil {
			return nil, fmt.Errorf("%s: %w", series, err)
		}
	}
	return []contest.Took{{Series: series, Time: took}}, nil
}
