package node

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/flight"
	"github.com/tendril-cni/tendril/cni/inspect"
	"github.com/tendril-cni/tendril/cni/journal"
	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/cni/refusal"
	"github.com/tendril-cni/tendril/ipam"
)

// InspectSocket is the path on which the daemon tells of itself.
func (c Config) InspectSocket() string { return filepath.Join(c.RunDir, inspect.SocketName) }

// Inspect asks the daemon of this node for cfg.Inspect and writes the answer.
func Inspect(ctx context.Context, cfg Config, w io.Writer) error {
	if !strings.HasPrefix(cfg.Inspect, "/") {
		return refusal.New("tendrild", "--inspect", cfg.Inspect, "a path such as /attachments; / lists them")
	}
	text, err := inspect.Ask(ctx, cfg.InspectSocket(), cfg.Inspect)
	if err == nil {
		_, err = w.Write(text)
	}
	return err
}

// sources are the daemon's answers. They may be asked as soon as open is done,
// also while the daemon still waits for the API server: that is when somebody
// asks.
func (d *daemon) sources() map[string]inspect.Source {
	return map[string]inspect.Source{
		inspect.PathAttachments: plain(func(context.Context) (any, error) { return d.attachments() }),
		inspect.PathAddresses:   plain(func(context.Context) (any, error) { return d.addresses() }),
		inspect.PathPools:       plain(func(context.Context) (any, error) { return d.pools(), nil }),
		inspect.PathNetworks:    plain(func(context.Context) (any, error) { return d.saysOfNetworks(), nil }),
		inspect.PathVFs:         plain(func(ctx context.Context) (any, error) { return d.inventoried(ctx) }),
		inspect.PathObserved:    plain(func(ctx context.Context) (any, error) { return d.observed(ctx) }),
		inspect.PathDoctor:      plain(func(ctx context.Context) (any, error) { return d.host(ctx) }),
		inspect.PathTraces:      d.traces,
	}
}

// traces are the flight recorder's, the oldest first.
func (d *daemon) traces(_ context.Context, query url.Values) (any, error) {
	var f flight.Filter
	for key := range query {
		value := query.Get(key)
		var ok bool
		switch key {
		case "pod":
			f.Namespace, f.Name, ok = strings.Cut(value, "/")
		case "verb":
			f.Verb, ok = value, true
		case "failed":
			f.Failed, ok = value == "true", value == "true" || value == "false"
		case "last":
			n, err := strconv.Atoi(value)
			f.Last, ok = n, err == nil && n > 0
		}
		if !ok {
			return nil, refusal.New("inspection", "query", key+"="+value, "pod=<namespace>/<name>, verb=ADD, failed=true, last=<number above 0>")
		}
	}
	if all := d.flights.Traces(f); all != nil {
		return all, nil
	}
	return []flight.Trace{}, nil
}

// plain is a source that takes no query.
func plain(find func(context.Context) (any, error)) inspect.Source {
	return func(ctx context.Context, query url.Values) (any, error) {
		if len(query) > 0 {
			return nil, refusal.New("inspection", "query", query.Encode(), "none: this path takes none")
		}
		return find(ctx)
	}
}

// records are all lines of the journal.
func (d *daemon) records() ([]cni.Record, error) {
	var out []cni.Record
	err := d.journal.View(func(tx *journal.Tx) error {
		for _, e := range tx.All() {
			var r cni.Record
			if err := json.Unmarshal(e.Data, &r); err != nil {
				return fmt.Errorf("decode record %s/%s: %w", e.Container, e.IfName, err)
			}
			out = append(out, r)
		}
		return nil
	})
	return out, err
}

func (d *daemon) attachments() ([]inspect.Attachment, error) {
	records, err := d.records()
	out := make([]inspect.Attachment, 0, len(records))
	for _, r := range records {
		a := r.Attachment
		one := inspect.Attachment{
			Namespace: a.Pod.Namespace, Pod: a.Pod.Name, UID: a.Pod.UID, Container: a.ContainerID, Interface: a.IfName,
			Network: a.Network, Default: a.Default, Kind: a.Kind, Phase: string(r.Phase), Resource: a.Resource, Device: a.Device,
			MAC: a.MAC, MTU: r.Link.MTU, Addresses: addressesOf(r), Netns: a.Netns.Path, Imported: r.Imported,
		}
		if r.Link.MAC != "" {
			one.MAC = r.Link.MAC
		}
		out = append(out, one)
	}
	return out, err
}

// addressesOf returns the CIDRs of an attachment: Tendril's own, or those that a
// foreign chain said that it gave.
func addressesOf(r cni.Record) []string {
	var out []string
	for _, a := range r.Attachment.Addresses {
		out = append(out, a.Prefix.String())
	}
	var foreign struct {
		IPs []struct {
			Address string `json:"address"`
		} `json:"ips"`
	}
	if len(out) == 0 && json.Unmarshal(r.Result, &foreign) == nil {
		for _, ip := range foreign.IPs {
			out = append(out, ip.Address)
		}
	}
	return out
}

func (d *daemon) addresses() (inspect.Addresses, error) {
	out := inspect.Addresses{Held: []inspect.Held{}}
	records, err := d.records()
	for _, r := range records {
		for _, address := range addressesOf(r) {
			a := r.Attachment
			out.Held = append(out.Held, inspect.Held{Network: a.Network, Address: address, Namespace: a.Pod.Namespace, Pod: a.Pod.Name, Interface: a.IfName})
		}
	}
	if err != nil {
		return out, err
	}
	return out, d.journal.View(func(tx *journal.Tx) error {
		ledger := ipam.NewLedger(tx.Bucket(journal.Addresses))
		for _, u := range ledger.Usage() {
			out.Spaces = append(out.Spaces, inspect.Space{Name: u.Space, Held: u.Held, Idle: u.Idle, Cooling: u.Cooling, Away: u.Away, Unsettled: u.Unsettled})
		}
		return ledger.Err()
	})
}

func (d *daemon) pools() inspect.Pools {
	out := inspect.Pools{Pools: []inspect.Pool{}}
	for _, p := range d.offer.plugin.Pools() {
		pool := inspect.Pool{Resource: p.Name(), Type: p.Resource.Type.String(), Devices: []inspect.Device{}}
		for _, dev := range p.Devices {
			pool.Devices = append(pool.Devices, inspect.Device{ID: dev.ID, Driver: dev.Driver, Unhealthy: dev.Cause})
		}
		out.Pools = append(out.Pools, pool)
	}
	for source, err := range d.offer.wrong() {
		if err == nil {
			continue
		}
		if out.Refused == nil {
			out.Refused = map[string]string{}
		}
		out.Refused[source] = err.Error()
	}
	return out
}

func (d *daemon) saysOfNetworks() inspect.Networks {
	said := d.networks.now()
	out := inspect.Networks{
		Kinds: slices.Sorted(maps.Keys(d.drivers())), Everyone: said.DefaultNetworks, Isolation: said.Isolation, Global: said.Global, Idle: said.Idle,
	}
	for _, n := range said.Delegates[min(1, len(said.Delegates)):] {
		out.Everyone = append(out.Everyone, n.Name)
	}
	if name := said.ClusterNetwork; name != "" {
		out.Default = &inspect.Network{Name: name}
		return out
	}
	n, err := d.defaultNetwork()
	if err != nil {
		out.DefaultError = err.Error()
		return out
	}
	out.Default = &inspect.Network{Name: n.Name, Types: typesOf(n)}
	return out
}

func typesOf(n netconf.Network) []string {
	var out []string
	for _, p := range n.Plugins {
		out = append(out, p.Type)
	}
	return out
}
