package main

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"time"

	"k8s.io/client-go/kubernetes"

	"github.com/tendril-cni/tendril/tests/bench/contest"
	"github.com/tendril-cni/tendril/tests/bench/host"
	"github.com/tendril-cni/tendril/tests/lab/kube"
)

// wholePart is what a container runtime waits for.
var wholePart = part{
	Name: "ADD and DEL as the runtime sees them",
	Lines: []contest.Comparison{
		{Name: "ADD, to reference macvlan + host-local", Ours: "tendril ADD", Reference: "reference ADD", Goal: 1. / 3},
		{Name: "DEL, to the kernel's bare delete", Ours: "tendril DEL", Reference: "bare delete", Goal: 1.1},
		{Name: "DEL, to reference macvlan + host-local", Ours: "tendril DEL", Reference: "reference DEL"},
		{Name: "ADD of a pod object, to the same reference", Ours: "tendril pod ADD", Reference: "reference ADD"},
	},
	Play: playWhole,
}

// settle lies between a pod's ADD and its DEL.
const settle = 50 * time.Millisecond

func playWhole(ctx context.Context, s *stand, rounds int) (contest.Samples, error) {
	config, err := s.api.RESTConfig(kube.Admin)
	if err != nil {
		return nil, err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	c := cluster{client}
	objects, err := c.create(ctx, rules(rounds).Warm+rounds)
	if err != nil {
		return nil, err
	}
	reference, err := json.Marshal(named(macvlanConf(referenceSubnet)))
	if err != nil {
		return nil, err
	}
	ours := s.daemon.Caller
	theirs := host.Caller{Plugin: filepath.Join(s.plugins, "macvlan"), Conf: reference, Path: s.plugins, IfName: ifName}
	return contest.Play(ctx, rules(rounds),
		s.lives("tendril", ours),
		s.lives("reference", theirs),
		s.bareLives(),
		func(ctx context.Context, round int) ([]contest.Took, error) {
			o := objects[round+rules(rounds).Warm]
			return s.life(ctx, "tendril pod", ours, o.uid, o.args(), func() error { return c.awaitStatus(ctx, o) })
		})
}

// lives are of pods that no API server knows: neither side asks one.
func (s *stand) lives(who string, c host.Caller) contest.Side {
	return func(ctx context.Context, _ int) ([]contest.Took, error) {
		id := fmt.Sprintf("%s%d", who, s.pods.Len())
		return s.life(ctx, who, c, id, "", func() error { return nil })
	}
}

// life is one pod's: ADD, and DEL after what follows the ADD in the background.
func (s *stand) life(ctx context.Context, who string, c host.Caller, id, args string, after func() error) ([]contest.Took, error) {
	p, err := s.pods.Fresh()
	if err != nil {
		return nil, err
	}
	result, add, err := c.Call(ctx, "ADD", p, id, args, c.Conf)
	if err == nil {
		err = p.Has(ifName, true)
	}
	if err == nil {
		err = after()
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", who, err)
	}
	conf, err := host.WithResult(c.Conf, result)
	if err != nil {
		return nil, err
	}
	pause(ctx, settle)
	_, del, err := c.Call(ctx, "DEL", p, id, args, conf)
	if err == nil {
		err = p.Has(ifName, false)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", who, err)
	}
	return []contest.Took{{Series: who + " ADD", Time: add}, {Series: who + " DEL", Time: del}}, nil
}

// bareLives are of links which nobody but the kernel has to do with.
func (s *stand) bareLives() contest.Side {
	k := newKernel(s.pods.Home(), s.master.Attrs().Index)
	return func(ctx context.Context, _ int) ([]contest.Took, error) {
		p, err := s.pods.Fresh()
		if err != nil {
			return nil, err
		}
		if err := k.create(p.File); err != nil {
			return nil, fmt.Errorf("bare create: %w", err)
		}
		pause(ctx, settle)
		took, err := k.remove(p.File)
		if err == nil {
			err = p.Has(bareName, false)
		}
		if err != nil {
			return nil, fmt.Errorf("bare delete: %w", err)
		}
		return []contest.Took{{Series: "bare delete", Time: took}}, nil
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
