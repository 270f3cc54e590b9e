package kube

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	ipamv1alpha1 "github.com/tendril-cni/tendril/ipam/v1alpha1"
	"github.com/tendril-cni/tendril/webhook/validate"
)

// heldTime bounds the look at all blocks: a review has five seconds. mostHeld is
// how many there may be at a time.
const (
	heldTime = 2 * time.Second
	mostHeld = 2
)

// held asks the API server for the blocks of a space: who has addresses within
// spans. It is for a definition whose ranges shrink, which is rare; nothing keeps
// blocks for it. What cannot be had leads to no finding.
func (s *sources) held(space string, spans []validate.Span) []validate.Held {
	select {
	case s.looks <- struct{}{}:
		defer func() { <-s.looks }()
	default:
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), heldTime)
	defer cancel()
	blocks := schema.GroupVersionResource{Group: ipamv1alpha1.Group, Version: ipamv1alpha1.Version, Resource: ipamv1alpha1.Resource}
	// The API server's own cache will do.
	list, err := s.objects.Resource(blocks).List(ctx, metav1.ListOptions{ResourceVersion: "0"})
	if err != nil {
		return nil
	}
	byOwner := map[string]*validate.Held{}
	for _, b := range typed[ipamv1alpha1.AddressBlock](pointers(list.Items)) {
		if own, cell, ok := b.Parse(); ok && own == space {
			for _, slot := range b.Spec.Slots {
				owner := ownerOf(slot)
				if addr := cell.Addr(slot.Slot); owner != "" && slices.ContainsFunc(spans, func(s validate.Span) bool { return s.Contains(addr) }) {
					if byOwner[owner] == nil {
						byOwner[owner] = &validate.Held{Owner: owner}
					}
					byOwner[owner].Addresses = append(byOwner[owner].Addresses, addr)
				}
			}
		}
	}
	var out []validate.Held
	for _, owner := range slices.Sorted(maps.Keys(byOwner)) {
		h := byOwner[owner]
		slices.SortFunc(h.Addresses, func(a, b netip.Addr) int { return a.Compare(b) })
		out = append(out, *h)
	}
	return out
}

// ownerOf is "" for a slot in quarantine.
func ownerOf(s ipamv1alpha1.Slot) string {
	switch {
	case s.Claim != "":
		return "claim " + s.Claim
	case s.Node != "":
		return fmt.Sprintf("node %s", s.Node)
	}
	return ""
}
