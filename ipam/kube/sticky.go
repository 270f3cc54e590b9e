package kube

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/tendril-cni/tendril/cni/refusal"
	"github.com/tendril-cni/tendril/ipam"
	"github.com/tendril-cni/tendril/ipam/v1alpha1"
)

// claimSticky finds, or makes, the addresses of an IPAMClaim, and grants them to
// the attachment. The claim's status is written before its slots are taken: what
// a crash leaves is a status whose slots the next attempt takes, never a slot
// that no status names.
func (n *Node) claimSticky(ctx context.Context, need *ipam.NeedSlots) error {
	namespace, name, ok := strings.Cut(need.Owner.Claim, "/")
	if !ok {
		return refusal.New("", "ipam-claim-reference", need.Owner.Claim, "namespace/name")
	}
	var last error
	for try := range stubborn {
		if try > 0 && pause(ctx, 50*time.Millisecond) != nil {
			break
		}
		claim, err := n.ipamClaims.get(ctx, namespace, name)
		if err != nil {
			last = err
			continue
		}
		if claim == nil {
			if last = n.makeClaim(ctx, need, namespace, name); isRefusal(last) {
				return last
			}
			continue
		}
		done, err := n.settleClaim(ctx, need, claim)
		if done || isRefusal(err) {
			return err
		}
		last = err
	}
	if last == nil && ctx.Err() == nil {
		last = fmt.Errorf("others were first %d times", stubborn)
	}
	return fmt.Errorf("claim addresses of IPAMClaim %s: %w", need.Owner.Claim, errors.Join(last, ctx.Err()))
}

// makeClaim makes the claim of a StatefulSet's pod; others are made by people.
func (n *Node) makeClaim(ctx context.Context, need *ipam.NeedSlots, namespace, name string) error {
	if !need.Make {
		return refusal.New("", "ipam-claim-reference", need.Owner.Claim, "an IPAMClaim that exists")
	}
	claim := &ipamClaim{}
	claim.Namespace, claim.Name = namespace, name
	claim.Labels = map[string]string{managedLabel: "tendril"}
	if _, pod, ok := strings.Cut(need.Owner.Pod, "/"); ok {
		claim.Annotations = map[string]string{podAnnotation: pod}
	}
	claim.Spec.Network, claim.Spec.Interface = need.Network, need.Owner.IfName
	return n.ipamClaims.create(ctx, claim)
}

// settleClaim brings status and slots of a claim to what the sets need; done says
// that the claim's addresses were granted.
func (n *Node) settleClaim(ctx context.Context, need *ipam.NeedSlots, claim *ipamClaim) (done bool, err error) {
	addrs := make([]netip.Addr, len(need.Wants))
	for _, text := range claim.Status.IPs {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return false, refusal.New("IPAMClaim "+need.Owner.Claim, "status.ips", text, "addresses in CIDR form")
		}
		at := 0 // several sets may have the same range: each takes one
		for at < len(addrs) && (addrs[at].IsValid() || !need.Wants[at].Set.Hands(p.Addr())) {
			at++
		}
		if at == len(addrs) {
			return false, refusal.New("IPAMClaim "+need.Owner.Claim, "status.ips", text, "addresses of the network's ranges, one of each; delete the claim to have others")
		}
		addrs[at] = p.Addr()
	}
	lost := false
	for i, w := range need.Wants {
		if addrs[i].IsValid() {
			held, err := n.takeForClaim(ctx, need, string(claim.UID), addrs[i])
			if err != nil {
				return false, err
			}
			if held {
				continue
			}
		}
		if addrs[i], err = n.choose(ctx, need.Space, w, addrs); err != nil {
			return false, err
		}
		lost = true
	}
	if lost {
		return false, n.propose(ctx, need, claim, addrs)
	}
	return true, n.update("grant", func(l *ipam.Ledger) { l.Grant(need.Network, need.Owner, addrs) })
}

// propose writes the addresses into the claim's status; the slots are taken in
// the next round.
func (n *Node) propose(ctx context.Context, need *ipam.NeedSlots, claim *ipamClaim, addrs []netip.Addr) error {
	claim.Status.IPs = nil
	for i, a := range addrs {
		claim.Status.IPs = append(claim.Status.IPs, netip.PrefixFrom(a, need.Wants[i].Set.Bits(a)).String())
	}
	if _, name, ok := strings.Cut(need.Owner.Pod, "/"); ok {
		claim.Status.OwnerPod = &ownerPod{Name: name}
	}
	_, err := n.ipamClaims.writeStatus(ctx, claim)
	if apierrors.IsConflict(err) {
		return nil // somebody else proposes: what they wrote is read next
	}
	return err
}

// takeForClaim makes the claim, the one of that uid, the owner of a slot; false means
// that somebody else is. That may be an earlier claim of the same name: what it had
// rests like that of any other claim that is gone.
func (n *Node) takeForClaim(ctx context.Context, need *ipam.NeedSlots, uid string, a netip.Addr) (held bool, err error) {
	p := place{need.Space, ipam.CellOf(a)}
	slot := p.cell.Index(a)
	err = n.change(ctx, p, stubborn, func(b *v1alpha1.AddressBlock) (edit, error) {
		s := b.At(slot)
		own := s != nil && s.Claim == need.Owner.Claim && (s.UID == uid || s.UID == "")
		held = own || !b.Taken(time.Now()).Has(slot)
		if !held || own && s.UID == uid {
			return edit{}, nil
		}
		if !own {
			picks, err := n.granted(ctx, p, 1<<slot, 1)
			if held = picks != 0; err != nil || !held {
				return edit{}, err
			}
		}
		b.Set(v1alpha1.Slot{Slot: slot, Claim: need.Owner.Claim, UID: uid, Interface: need.Owner.IfName, Suspect: s != nil && (s.Suspect || s.Until != nil)})
		return edit{write: true}, nil
	})
	return held, err
}

// choose returns a free address of a set that is none of beside, the lowest of the
// first cell that has one. The peer, where there is one, has granted it.
func (n *Node) choose(ctx context.Context, space string, w ipam.Want, beside []netip.Addr) (found netip.Addr, err error) {
	s := &search{node: n, space: space, want: w, seen: map[ipam.Cell]*v1alpha1.AddressBlock{}}
	last := uint64(0)
	candidates(w.Set, &last, func(c ipam.Cell) verdict {
		if s.seen[c] != nil || w.Set.Mask(c) == 0 {
			return nothing
		}
		var b *v1alpha1.AddressBlock
		if b, err = n.blocks.Get(ctx, v1alpha1.Name(space, c), false); err != nil {
			return broken
		}
		if b == nil {
			b = v1alpha1.New(space, c)
		}
		free := w.Set.Mask(c) &^ b.Taken(time.Now())
		for _, a := range beside {
			if a.IsValid() && ipam.CellOf(a) == c {
				free &^= 1 << c.Index(a)
			}
		}
		var pick ipam.Mask
		if pick, err = n.granted(ctx, place{space, c}, free, 1); err != nil {
			return broken
		}
		if pick != 0 {
			found = c.Addr(pick.Slots()[0])
			return enough
		}
		s.seen[c] = b
		return nothing
	})
	switch {
	case err != nil || found.IsValid():
		return found, err
	}
	n.call(ctx, space, s.crowded(), nil)
	return found, s.exhausted()
}
