package cni

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/tendril-cni/tendril/cni/journal"
	"github.com/tendril-cni/tendril/cni/refusal"
)

// mainTable is RT_TABLE_MAIN, the table of default routes without a table.
const mainTable = 254

// Gateway is one default route of a pod: by way of Via, through the interface.
type Gateway struct {
	IfName string
	Via    netip.Addr
}

// DefaultRoutes decides by which interface of a pod goes what has no other
// route. It looks at the main table alone, and at the families of the gateways
// that it is given.
type DefaultRoutes interface {
	// Prior reads, and does not change, the default routes that Set would take
	// away, as a note for Restore; nil when there are none.
	Prior(ctx context.Context, ns *os.File, want []Gateway) (json.RawMessage, error)
	// Set makes each gateway the only default route of its family, without a
	// moment in which there is none, and returns once it has observed that.
	Set(ctx context.Context, ns *os.File, want []Gateway) error
	// Restore puts back what a note says. Routes of interfaces that are gone, and
	// those that are there, are done.
	Restore(ctx context.Context, ns *os.File, note json.RawMessage) error
}

// provide notes for each attachment which default routes it provides, and
// refuses more than one of a family in the whole pod. An element with [] asks
// for nothing: its network keeps the routes it has, and so do all others.
func provide(plan []Planned) error {
	holder := map[bool]string{} // by "is IPv4"
	for i := range plan {
		a := &plan[i].Attachment
		if a.Selection == nil {
			continue
		}
		for _, gw := range a.Selection.DefaultRoute {
			if by, ok := holder[gw.Is4()]; ok {
				return refusal.New(fmt.Sprintf("pod %q", a.Pod), "default-route", gw.String(),
					fmt.Sprintf("one gateway a family in the whole pod (no ECMP); %s has one already", by))
			}
			holder[gw.Is4()] = fmt.Sprintf("%s on %s", a.Network, a.IfName)
			a.Gateways = append(a.Gateways, gw)
		}
	}
	return nil
}

// provided returns the default routes that the attachments provide.
func provided(records []Record) []Gateway {
	var out []Gateway
	for _, r := range records {
		for _, gw := range r.Attachment.Gateways {
			out = append(out, Gateway{IfName: r.Attachment.IfName, Via: gw})
		}
	}
	return out
}

// steer gives native attachments the default routes that they provide, in place
// of those of their own networks, before anything is made.
func steer(records []Record) error {
	for i := range records {
		a := &records[i].Attachment
		if a.Kind == KindExec || a.Leased || len(a.Gateways) == 0 || a.Filed != "" && len(a.Addresses) == 0 {
			continue // their addresses are not known yet
		}
		a.Routes = others(a.Routes, provided(records[i:i+1]))
		for _, gw := range a.Gateways {
			if err := reachable(*a, gw); err != nil {
				return err
			}
			a.Routes = append(a.Routes, Route{Dst: everything(gw), Via: gw})
		}
	}
	return nil
}

// others returns routes without the default ones of the families of want.
func others(routes []Route, want []Gateway) []Route {
	return slices.DeleteFunc(slices.Clone(routes), func(r Route) bool {
		return r.Dst.Bits() == 0 && (r.Table == nil || *r.Table == mainTable) && moved(want, r.Dst.Addr())
	})
}

// moved reports whether a family's default route is one of want.
func moved(want []Gateway, family netip.Addr) bool {
	return slices.ContainsFunc(want, func(g Gateway) bool { return g.Via.Is4() == family.Unmap().Is4() })
}

// everything is 0.0.0.0/0 or ::/0, as gw is.
func everything(gw netip.Addr) netip.Prefix {
	if gw.Is4() {
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
}

// reachable refuses a gateway that is in no subnet of the interface. An ipvlan
// may be in a layer 3 mode, which needs none.
func reachable(a Attachment, gw netip.Addr) error {
	if a.Kind == KindIpvlan || gw.IsLinkLocalUnicast() {
		return nil
	}
	var subnets []string
	for _, ad := range a.Addresses {
		if ad.Prefix.Contains(gw) {
			return nil
		}
		subnets = append(subnets, ad.Prefix.Masked().String())
	}
	if len(subnets) == 0 {
		subnets = []string{"none, since the network gives it no address"}
	}
	return refusal.New(fmt.Sprintf("pod %q network %s", a.Pod, a.Network), "default-route", gw.String(),
		"a gateway in a subnet of interface "+a.IfName+": "+strings.Join(subnets, ", "))
}

// settle makes the pod's default routes what its attachments provide, once all
// of them are attached. kept are those that were there before this call. What
// gives way is noted with those that it gives way to; where it is of kept
// attachments, the note is in the journal before anything changes, so that a
// crash cannot lose it.
func (e *Engine) settle(ctx context.Context, r Request, records []Record, kept ...Record) error {
	want := append(provided(kept), provided(records)...)
	if len(want) == 0 {
		return nil
	}
	if e.DefaultRoutes == nil {
		return refusal.New(fmt.Sprintf("pod %q", records[0].Attachment.Pod), "default-route", fmt.Sprint(want), "absent: this daemon moves no default routes")
	}
	if err := e.noteDisplaced(ctx, r, records, len(kept) > 0); err != nil {
		return err
	}
	if err := e.DefaultRoutes.Set(ctx, r.Netns, want); err != nil {
		return fmt.Errorf("set default route: %w", err)
	}
	return nil
}

func (e *Engine) noteDisplaced(ctx context.Context, r Request, records []Record, live bool) (err error) {
	var noted []Record
	for i := range records {
		want := provided(records[i : i+1])
		if len(want) == 0 {
			continue
		}
		if records[i].Displaced, err = e.DefaultRoutes.Prior(ctx, r.Netns, want); err != nil {
			return fmt.Errorf("read default routes: %w", err)
		}
		noted = append(noted, records[i])
	}
	if !live || len(noted) == 0 {
		return nil
	}
	return e.Journal.Update("displaced", func(tx *journal.Tx) error { return putAll(tx, noted) })
}

// effective returns the records of a whole pod with the default routes that its
// interfaces really have: what CHECK compares with the kernel and what people are
// told. The journal keeps what each network gave, for the day on which the
// attachment that provides the default route goes. A result that cannot be read
// stays as it is.
func effective(records []Record) []Record {
	want := provided(records)
	if len(want) == 0 {
		return records
	}
	out := slices.Clone(records)
	for i := range out {
		a := &out[i].Attachment
		own := provided(out[i : i+1])
		if a.Kind == KindExec {
			out[i].Result = rewritten(out[i].Result, want, own)
			continue
		}
		a.Routes = others(a.Routes, want)
		for _, gw := range own {
			a.Routes = append(a.Routes, Route{Dst: everything(gw.Via), Via: gw.Via})
		}
	}
	return out
}

// rewritten is a result without the default routes of the families of want, and
// with those of own.
func rewritten(raw json.RawMessage, want, own []Gateway) json.RawMessage {
	res := &current.Result{}
	if json.Unmarshal(raw, res) != nil {
		return raw
	}
	res.Routes = slices.DeleteFunc(res.Routes, func(rt *types.Route) bool {
		return isDefault(rt) && (rt.Table == nil || *rt.Table == mainTable) && moved(want, family(rt))
	})
	for _, gw := range own {
		res.Routes = append(res.Routes, &types.Route{Dst: ipNet(everything(gw.Via)), GW: gw.Via.AsSlice()})
	}
	out, err := json.Marshal(res)
	if err != nil {
		return raw
	}
	return out
}

// isDefault reports whether rt is a route for everything.
func isDefault(rt *types.Route) bool {
	ones, _ := rt.Dst.Mask.Size()
	return ones == 0 && rt.Dst.IP.IsUnspecified()
}

// family is the unspecified address of rt's family.
func family(rt *types.Route) netip.Addr {
	addr, _ := netip.AddrFromSlice(rt.Dst.IP)
	return addr.Unmap()
}

// restore gives the default routes back that rec's attachment had displaced, to
// those of the pod's interfaces that are still there.
func (e *Engine) restore(ctx context.Context, ns *os.File, rec Record) error {
	if ns == nil || e.DefaultRoutes == nil || rec.Displaced == nil {
		return nil
	}
	if err := e.DefaultRoutes.Restore(ctx, ns, rec.Displaced); err != nil {
		return fmt.Errorf("restore default routes: %w", err)
	}
	return nil
}
