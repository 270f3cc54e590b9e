package whereabouts

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"

	"github.com/tendril-cni/tendril/cni/refusal"
)

// DefaultNamespace is where whereabouts keeps its objects unless its configuration
// says otherwise.
const DefaultNamespace = "kube-system"

// Find says whether the cluster has whereabouts' objects, and in which namespace:
// that of the first pool, or the default one while there is none.
func Find(ctx context.Context, config *rest.Config) (namespace string, found bool, err error) {
	r, err := NewReservations(config, "", "")
	if err != nil {
		return "", false, err
	}
	data, err := answer(r.client.Get().Resource("ippools").Param("limit", "1").Do(ctx))
	if apierrors.IsNotFound(err) {
		return "", false, nil
	}
	if err != nil {
		return "", false, fmt.Errorf("look for pools of whereabouts: %w", err)
	}
	var page struct{ Items []Pool }
	if err := json.Unmarshal(data, &page); err != nil {
		return "", false, fmt.Errorf("decode IPPools of whereabouts: %w", err)
	}
	for _, p := range page.Items {
		return p.Metadata.Namespace, true, nil
	}
	return DefaultNamespace, true, nil
}

// poolsFresh is how long what was read of the pools counts. Only allocations
// without a reservation show there alone, and those are old ones.
const poolsFresh = 10 * time.Second

// allocated says whether a pool has a for somebody. A pool whose space cannot be
// told counts for every space.
func (r *Reservations) allocated(ctx context.Context, space string, a netip.Addr) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.taken == nil || time.Since(r.read) > poolsFresh {
		pools, err := r.Pools(ctx)
		if err != nil {
			return false, err
		}
		r.taken, r.read = index(pools), time.Now()
	}
	return r.taken[spaced{space, a}] || r.taken[spaced{anySpace, a}], nil
}

// spaced is an address of a space; anySpace is no name of one.
type spaced struct {
	space string
	addr  netip.Addr
}

const anySpace = "*"

func index(pools []Pool) map[spaced]bool {
	out := map[spaced]bool{}
	for _, p := range pools {
		all, err := p.Addresses()
		if err != nil {
			all, _ = p.AddressesIn(anySpace)
		}
		for _, a := range all {
			out[spaced{a.Space, a.Addr}] = true
		}
	}
	return out
}

// Pools returns every IPPool of the namespace: what Tendril takes over. Those of
// node slices are among them (see Pool.Addresses).
func (r *Reservations) Pools(ctx context.Context) ([]Pool, error) {
	var out []Pool
	for next := ""; ; {
		data, err := answer(r.client.Get().Namespace(r.namespace).Resource("ippools").
			Param("limit", "100").Param("continue", next).Do(ctx))
		if err != nil {
			return nil, fmt.Errorf("list IPPools of whereabouts: %w", err)
		}
		var page struct {
			Metadata struct {
				Continue string `json:"continue"`
			} `json:"metadata"`
			Items []Pool `json:"items"`
		}
		if err := json.Unmarshal(data, &page); err != nil {
			return nil, fmt.Errorf("decode IPPools of whereabouts: %w", err)
		}
		out = append(out, page.Items...)
		if next = page.Metadata.Continue; next == "" {
			return out, nil
		}
	}
}

// slicePool is what a NodeSlicePool says of the slices of a range.
type slicePool struct {
	Status struct {
		Allocations []struct {
			NodeName   string `json:"nodeName"`
			SliceRange string `json:"sliceRange"`
		} `json:"allocations"`
	} `json:"status"`
}

// Importable returns every IPPool of the namespace, as Pools does, and refuses one of a
// node's slice: its name looks like that of a network that is called as the node is.
func (r *Reservations) Importable(ctx context.Context) ([]Pool, error) {
	pools, err := r.Pools(ctx)
	if err != nil {
		return nil, err
	}
	data, err := answer(r.client.Get().Namespace(r.namespace).Resource("nodeslicepools").Do(ctx))
	if apierrors.IsNotFound(err) {
		return pools, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list NodeSlicePools of whereabouts: %w", err)
	}
	var list struct{ Items []slicePool }
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("decode NodeSlicePools of whereabouts: %w", err)
	}
	for _, p := range pools {
		for _, s := range list.Items {
			if err := p.whole(s); err != nil {
				return nil, err
			}
		}
	}
	return pools, nil
}

// whole refuses a pool of one of the slices.
func (p Pool) whole(slices slicePool) error {
	for _, a := range slices.Status.Allocations {
		slice, err := netip.ParsePrefix(a.SliceRange)
		if err != nil || a.NodeName == "" {
			continue
		}
		if name := PoolName(a.NodeName, slice); p.Metadata.Name == name || strings.HasSuffix(p.Metadata.Name, "-"+name) {
			return refusal.New("IPPool "+p.Metadata.Name, "spec.range", p.Spec.Range,
				fmt.Sprintf("a whole range; this is the slice of node %s, which cannot be imported: make its pods again on nodes of Tendril and delete it", a.NodeName))
		}
	}
	return nil
}
