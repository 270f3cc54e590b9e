package ipvlan

import (
	"context"
	"os"

	"github.com/tendril-cni/tendril/cni"
)

var _ cni.Checker = (*Driver)(nil)

// Check compares the link in ns with its record. See cni.Checker.
func (d *Driver) Check(ctx context.Context, ns *os.File, r cni.Record) error {
	c, _, err := child(r.Attachment)
	if err != nil {
		return err
	}
	return c.Check(ctx, ns, r)
}
