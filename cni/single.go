package cni

import (
	"context"
	"fmt"
	"slices"

	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/cni/refusal"
)

// AttachOne attaches one network more to a sandbox, whatever its pod's annotation
// says: for tools that plug by calls. r is a CNI ADD of that network; el has what
// was asked for beside the configuration. The attachment belongs to the sandbox'
// own ADD, so that the pod's DEL frees it. One that is there already, of the same
// network under the same name, is answered with its result.
func (e *Engine) AttachOne(ctx context.Context, r Request, network netconf.Network, el netconf.Element) (*current.Result, error) {
	ctx, r = e.depart(ctx, r, VerbPlug)
	r.Run = sparing(r.Run)
	leave, err := e.queue(ctx, r)
	if err != nil {
		return nil, r.landed(PodRef{}, err)
	}
	defer leave()
	res, err := e.attachOne(ctx, r, network, el)
	return res, r.landed(PodRef{}, err)
}

func (e *Engine) attachOne(ctx context.Context, r Request, network netconf.Network, el netconf.Element) (*current.Result, error) {
	records, err := e.records(r.ContainerID, "")
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(records, func(rec Record) bool { return rec.Attachment.Default && rec.Phase == Attached })
	if at < 0 || r.Netns == nil {
		return nil, refusal.New("attachment of one network", "CNI_CONTAINERID", r.ContainerID, "a sandbox that runs and whose default network Tendril has attached")
	}
	same, err := e.same(r.Netns, records[at].Attachment.Netns)
	if err != nil {
		return nil, err
	}
	if !same {
		return nil, refusal.New("attachment of one network", "CNI_NETNS", r.NetnsPath, "the network namespace of container "+r.ContainerID+": "+records[at].Attachment.Netns.Path)
	}
	c := comparison{first: records[at], kept: slices.Delete(slices.Clone(records), at, at+1)}
	el.Interface = r.IfName
	for _, rec := range records {
		if a := rec.Attachment; a.IfName == r.IfName && rec.Phase == Attached && a.Config.Name == network.Name {
			return resultOf(rec)
		}
	}
	call := r
	call.IfName = c.first.Attachment.Call
	position := len(records)
	c.add = map[int]Choice{position: {Network: &network, Element: el, Where: "attachment of one network"}}
	pod := Pod{PodRef: c.first.Attachment.Pod}
	planned, err := e.planMore(ctx, pod, call, c)
	if err != nil {
		return nil, err
	}
	// Nobody asks for it in an annotation: no Plug takes it away.
	planned[0].Attachment.Selection = nil
	added, err := e.prepareMore(ctx, r, c, planned)
	if err != nil {
		return nil, err
	}
	if err := e.attachMore(ctx, call, c, added, planned); err != nil {
		return nil, err
	}
	if err := e.tell(pod.PodRef, call, added); err != nil {
		return nil, err
	}
	return resultOf(added[0])
}

// DetachOne takes one network from a sandbox. Absent is done. The default network
// is the runtime's business and is refused.
func (e *Engine) DetachOne(ctx context.Context, r Request) error {
	ctx, r = e.depart(ctx, r, VerbPlug)
	leave, err := e.queue(ctx, r)
	if err != nil {
		return r.landed(PodRef{}, err)
	}
	defer leave()
	return r.landed(PodRef{}, e.detachOne(ctx, r))
}

func (e *Engine) detachOne(ctx context.Context, r Request) error {
	records, err := e.records(r.ContainerID, "")
	if err != nil {
		return err
	}
	for _, rec := range records {
		a := rec.Attachment
		switch {
		case a.IfName != r.IfName:
			continue
		case a.Default:
			return refusal.New(fmt.Sprintf("pod %q", a.Pod), "CNI_IFNAME", r.IfName, "an interface other than that of the default network")
		}
		call := r
		call.IfName = a.Call
		if err := e.unplug(ctx, a.Pod, call, []Record{rec}); err != nil {
			return err
		}
		return e.tell(a.Pod, call, nil)
	}
	return nil
}

// CheckOne compares one attachment with the kernel, as Check does all of a call.
func (e *Engine) CheckOne(ctx context.Context, r Request) error {
	leave, err := e.locks.take(ctx, r.ContainerID)
	if err != nil {
		return err
	}
	defer leave()
	records, err := e.records(r.ContainerID, "")
	if err != nil {
		return err
	}
	i := slices.IndexFunc(records, func(rec Record) bool { return rec.Attachment.IfName == r.IfName })
	if i < 0 {
		return fmt.Errorf("check container %s: nothing is attached as %s", r.ContainerID, r.IfName)
	}
	ns, err := e.namespace(r, records)
	if err != nil {
		return err
	}
	if ns == nil {
		return fmt.Errorf("check container %s: its network namespace is gone", r.ContainerID)
	}
	if ns != r.Netns {
		defer ns.Close()
	}
	if err := e.check(ctx, r, ns, records[i]); err != nil {
		return fmt.Errorf("check interface %s: %w", r.IfName, err)
	}
	return nil
}
