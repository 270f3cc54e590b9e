package cli

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/tendril-cni/tendril/cmd/kubectl-tendril/addresses"
	"github.com/tendril-cni/tendril/cmd/kubectl-tendril/fleet"
	"github.com/tendril-cni/tendril/cni/inspect"
	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/ipam"
	ipamkube "github.com/tendril-cni/tendril/ipam/kube"
	"github.com/tendril-cni/tendril/ipam/v1alpha1"
	"github.com/tendril-cni/tendril/webhook/validate"
)

func (t *tool) ips() *cobra.Command {
	var holders bool
	var only string
	cmd := &cobra.Command{
		Use: "ips", Short: "Count used, idle and free addresses of each network's ranges, or list who has them", Args: cobra.NoArgs,
		Long: `ips counts the addresses of networks. A used address is with a pod; an idle one
belongs to a node, which hands it out without asking anybody; a free one is
nobody's. Ranges of host-local are each node's own and counted by node. With
-o wide there are also those that a claim keeps without a pod, and those in
quarantine.`,
	}
	out := t.output(cmd)
	cmd.Flags().BoolVar(&holders, "holders", false, "list each address with its pod, interface and node")
	cmd.Flags().StringVar(&only, "network", "", "only this network, as namespace/name")
	out.run(cmd, func(ctx context.Context, f *fleet.Fleet, _ []string) error {
		facts, err := t.addressFacts(ctx, f)
		if err != nil {
			return err
		}
		if err := hasNetwork(facts, only); err != nil {
			return err
		}
		if holders {
			return printHolders(out, facts, only)
		}
		return printCounts(out, facts, only)
	})
	return cmd
}

// hasNetwork refuses the name of a network that neither has addresses to give nor
// gave any.
func hasNetwork(facts addresses.Facts, name string) error {
	all := map[string]bool{}
	for _, r := range addresses.Count(facts) {
		all[r.Network] = true
	}
	for _, h := range addresses.Holders(facts) {
		all[h.Network] = true
	}
	delete(all, "") // addresses of no network
	if name == "" || all[name] {
		return nil
	}
	return misused("--network: value %q is not allowed; allowed: %s", name, strings.Join(slices.Sorted(maps.Keys(all)), ", "))
}

func printCounts(out *output, facts addresses.Facts, only string) error {
	rows := slices.DeleteFunc(addresses.Count(facts), func(r addresses.Row) bool { return only != "" && r.Network != only })
	tab := table{columns: columns("NETWORK", "SCOPE", "SPACE+", "RANGE", "SIZE", "USED", "IDLE", "FREE", "CLAIMED+", "QUARANTINED+")}
	for _, r := range rows {
		size, free, idle := "", "", ""
		if r.Size != nil {
			size, free = addresses.Text(r.Size), addresses.Text(r.Free)
		}
		if r.Scope == "cluster" {
			idle = fmt.Sprint(r.Idle)
		}
		tab.add(r.Network, r.Scope, r.Space, r.Range, size, r.Used, idle, free, number(r.Claimed, 0), number(r.Quarantined, 0))
	}
	return out.print("AddressCount", map[string]any{"items": orEmpty(rows)}, tab)
}

func printHolders(out *output, facts addresses.Facts, only string) error {
	rows := slices.DeleteFunc(addresses.Holders(facts), func(h addresses.Holder) bool { return only != "" && h.Network != only })
	tab := table{columns: columns("ADDRESS", "NETWORK", "POD", "INTERFACE", "NODE", "NOTE+")}
	for _, h := range rows {
		tab.add(h.Address, cmp.Or(h.Network, h.Space), cmp.Or(h.Pod, h.Note), h.Interface, h.Node, h.Note)
	}
	return out.print("AddressHolders", map[string]any{"items": orEmpty(rows)}, tab)
}

// addressFacts gathers definitions, blocks and what the journals hold.
func (t *tool) addressFacts(ctx context.Context, f *fleet.Fleet) (addresses.Facts, error) {
	facts := addresses.Facts{Now: t.Now()}
	known, err := t.known(ctx)
	if err != nil {
		return facts, err
	}
	facts.Networks = networksOf(known)
	if facts.Blocks, err = blocks(ctx, f); err != nil {
		return facts, err
	}
	nodes, err := f.Nodes(ctx)
	if err != nil {
		return facts, err
	}
	daemons, err := f.Daemons(ctx)
	if err != nil {
		return facts, err
	}
	for _, a := range fleet.AskAll[inspect.Addresses](ctx, f, daemons, nodeNames(nodes), inspect.PathAddresses) {
		if a.Err != nil {
			t.warn("%s: which addresses its pods have is not known, they count as idle or free: %v", a.Node, a.Err)
		}
		for _, h := range a.Value.Held {
			facts.Held = append(facts.Held, addresses.Held{Node: a.Node, Held: h})
		}
	}
	return facts, nil
}

// networksOf are the definitions with address management that can be read.
func networksOf(known validate.Facts) []addresses.Network {
	var out []addresses.Network
	for _, s := range known.Networks.Summaries() {
		d := known.Networks.Network(s.Namespace, s.Name)
		n, err := netconf.ParseNetwork("", []byte(d.Spec.Config), d.Name)
		if err != nil {
			continue
		}
		raw, kind, err := netconf.ParseIPAM(n.Plugins[0])
		if err != nil || kind == "" {
			continue
		}
		if config, err := ipam.Parse(raw); err == nil {
			out = append(out, addresses.Network{Ref: s.Ref(), Config: config})
		}
	}
	return out
}

// blocks lists the AddressBlocks; a cluster that does not know the kind has none.
func blocks(ctx context.Context, f *fleet.Fleet) ([]*v1alpha1.AddressBlock, error) {
	client, err := ipamkube.NewBlocks(f.Config)
	if err != nil {
		return nil, err
	}
	var out []*v1alpha1.AddressBlock
	err = client.List(ctx, func(b *v1alpha1.AddressBlock) error {
		out = append(out, b)
		return nil
	})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return out, err
}
