package cni

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/tendril-cni/tendril/cni/refusal"
)

// comparison is what separates the records of a sandbox from what its pod asks
// for.
type comparison struct {
	// first is the default network's record. kept are the others that stay, with
	// the order that they have in the annotation now; moved says that it is another
	// one than before.
	first Record
	kept  []Record
	moved bool
	// gone are to be detached.
	gone []Record
	// add are the choices to be attached, by their position: 1 is the first after
	// the default network.
	add map[int]Choice
}

// compare matches records with choices. An attachment stays when the pod asks for
// it in the same words; one that was taken over stays when network and interface
// are the same, since more of what was asked is not known. What the node gives to
// a pod, and the default network, is of the ADD and not of the annotation; gives
// reports whether the node has a network, which those who were taken over cannot
// tell. A record that was not finished goes, and is attached anew.
func compare(records []Record, choices []Choice, gives func(network string) bool) comparison {
	c := comparison{add: map[int]Choice{}}
	left := slices.Clone(records)
	left = slices.DeleteFunc(left, func(r Record) bool {
		switch {
		case r.Attachment.Default:
			c.first = r
		case r.Attachment.Selection == nil:
			c.kept = append(c.kept, r)
		default:
			return false
		}
		return true
	})
	var asked []Choice
	var serving []*Record // of each asked choice, nil for none
	for _, choice := range choices {
		if !choice.Asked {
			continue
		}
		var rec *Record
		if i := slices.IndexFunc(left, func(r Record) bool { return r.serves(choice) }); i >= 0 {
			rec = new(left[i])
			left = slices.Delete(left, i, i+1)
		}
		asked, serving = append(asked, choice), append(serving, rec)
	}
	for _, r := range left {
		if r.Imported && gives(r.Attachment.Network) {
			c.kept = append(c.kept, r)
		} else {
			c.gone = append(c.gone, r)
		}
	}
	c.place(asked, serving)
	return c
}

// place gives what is asked for its positions, which follow those of what is given.
func (c *comparison) place(asked []Choice, serving []*Record) {
	given := len(c.kept)
	for i, rec := range serving {
		position := given + i + 1
		if rec == nil {
			c.add[position] = asked[i]
			continue
		}
		c.moved = c.moved || rec.Order != position
		rec.Order = position
		c.kept = append(c.kept, *rec)
	}
}

// serves reports whether the record is what c asks for.
func (r Record) serves(c Choice) bool {
	a, el := r.Attachment, c.Element
	switch {
	case r.Phase != Attached || a.Network != el.Ref():
		return false
	case r.Imported:
		return el.Interface == "" || el.Interface == a.IfName
	}
	// Both went through the same parser: equal text is an equal wish.
	was, err1 := json.Marshal(a.Selection)
	now, err2 := json.Marshal(el)
	return err1 == nil && err2 == nil && string(was) == string(now)
}

// planMore plans the attachments that are new. Nothing was touched when it
// refuses.
func (e *Engine) planMore(ctx context.Context, pod Pod, r Request, c comparison) ([]Planned, error) {
	if len(c.add) == 0 {
		return nil, nil
	}
	first := c.first.Attachment
	w := Wanted{ContainerID: r.ContainerID, IfName: r.IfName, Netns: first.Netns, Pod: first.Pod, CNIArgs: ofPod(first.CNIArgs), Filed: first.Filed != ""}
	w.Ordinal = pod.Ordinal
	var err error
	if w.Flat, err = e.flat(); err != nil {
		return nil, err
	}
	// The default network takes part in the plan as what it is; it is not changed.
	w.Default = Choice{Network: &first.Config, Where: "default network"}
	w.Default.Element.DeviceID = first.Device
	positions := slices.Sorted(maps.Keys(c.add))
	names, err := c.names(positions)
	if err != nil {
		return nil, err
	}
	for i, at := range positions {
		choice := c.add[at]
		choice.Element.Interface = names[i]
		w.Choices = append(w.Choices, choice)
	}
	if needsDevices(w.Choices) {
		if w.Devices, err = e.Devices.Devices(ctx, pod.PodRef); err != nil {
			return nil, err
		}
		w.Devices = c.free(w.Devices)
	}
	plan, err := Plan(w)
	if err != nil {
		return nil, err
	}
	plan = plan[1:]
	for i, at := range positions {
		// What was asked for and not what became of it: a generated name must not
		// look like one that was asked for.
		asked := c.add[at].Element
		plan[i].Attachment.Selection = &asked
	}
	return plan, c.routesFree(plan)
}

// names gives each addition its name: the one asked for, or that of its position,
// or, where another interface has that one, the first that is free.
func (c comparison) names(positions []int) ([]string, error) {
	taken := map[string]string{c.first.Attachment.IfName: c.first.Attachment.Network}
	for _, r := range c.kept {
		taken[r.Attachment.IfName] = r.Attachment.Network
	}
	for _, at := range positions {
		choice := c.add[at]
		name := choice.Element.Interface
		if name == "" {
			continue
		}
		if by := taken[name]; by != "" {
			return nil, refusal.New(choice.Where, "interface", name, fmt.Sprintf("a name that no other network of the pod has; %s has this one", by))
		}
		taken[name] = choice.Element.Ref()
	}
	names := make([]string, len(positions))
	for i, at := range positions {
		name := c.add[at].Element.Interface
		if name == "" {
			name = fmt.Sprintf("net%d", at)
			for n := 1; taken[name] != ""; n++ {
				name = fmt.Sprintf("net%d", n)
			}
		}
		taken[name], names[i] = c.add[at].Element.Ref(), name
	}
	return names, nil
}

// free is what the kubelet gave to the pod without what its attachments hold.
func (c comparison) free(devices map[string][]string) map[string][]string {
	held := map[string]bool{}
	for _, r := range append(slices.Clone(c.kept), c.first) {
		held[r.Attachment.Device] = true
	}
	out := map[string][]string{}
	for resource, ids := range devices {
		for _, id := range ids {
			if !held[id] {
				out[resource] = append(out[resource], id)
			}
		}
	}
	return out
}

// routesFree refuses a second default route of one family: Plan sees only those
// of the new attachments.
func (c comparison) routesFree(plan []Planned) error {
	for _, p := range plan {
		for _, gw := range p.Attachment.Gateways {
			for _, have := range provided(c.kept) {
				if have.Via.Is4() == gw.Is4() {
					return refusal.New(fmt.Sprintf("pod %q", p.Attachment.Pod), "default-route", gw.String(),
						fmt.Sprintf("one gateway a family in the whole pod (no ECMP); %s has one already", have.IfName))
				}
			}
		}
	}
	return nil
}

// prepareMore records what is going to be attached. As in an ADD, nothing else
// has been changed when it returns.
func (e *Engine) prepareMore(ctx context.Context, r Request, c comparison, plan []Planned) ([]Record, error) {
	positions := slices.Sorted(maps.Keys(c.add))
	records := make([]Record, len(plan))
	for i, p := range plan {
		records[i] = Record{Attachment: p.Attachment, Order: positions[i], Phase: Plugging}
		if err := e.prior(ctx, r, &records[i]); err != nil {
			return nil, fmt.Errorf("network %s: %w", p.Attachment.Network, err)
		}
	}
	if len(records) == 0 {
		return nil, nil
	}
	return records, e.intend(ctx, r, "plugging", records, plan)
}
