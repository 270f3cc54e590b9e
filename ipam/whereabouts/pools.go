package whereabouts

import (
	"context"
	"encoding/json"
	"fmt"
)

// Pools returns every IPPool of the namespace: what Tendril takes over. Those of
// node slices are among them (see Pool.Addresses).
func (r *Reservations) Pools(ctx context.Context) ([]Pool, error) {
	var out []Pool
	for next := ""; ; {
		data, err := r.client.Get().Namespace(r.namespace).Resource("ippools").
			Param("limit", "100").Param("continue", next).Do(ctx).Raw()
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
