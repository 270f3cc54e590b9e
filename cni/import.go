package cni

import (
	"errors"
	"fmt"
	"slices"

	"github.com/tendril-cni/tendril/cni/journal"
)

// Import puts attachments that another meta-plugin made into the journal, one
// transaction for each container, so that the DELs to come undo them. Containers
// that the journal knows are left alone. It returns the containers that came in;
// the errors are about those that did not, for example because another attachment
// has their device by now. It runs before the first request.
func (e *Engine) Import(sandboxes map[string][]Record) (imported []string, err error) {
	var errs []error
	for container, records := range sandboxes {
		came := false
		err := e.Journal.Update("import", func(tx *journal.Tx) error {
			if len(tx.Container(container)) > 0 || len(records) == 0 {
				return nil
			}
			for _, rec := range records {
				if err := hold(tx, rec.Attachment); err != nil {
					return err
				}
			}
			came = true
			return putAll(tx, records)
		})
		if err != nil {
			errs = append(errs, fmt.Errorf("take over container %s: %w", container, err))
		} else if came {
			imported = append(imported, container)
		}
	}
	slices.Sort(imported)
	return imported, errors.Join(errs...)
}

// Imported returns what was taken over and is still attached, by container.
func (e *Engine) Imported() (map[string][]Attachment, error) {
	all, err := e.all()
	out := map[string][]Attachment{}
	for _, rec := range all {
		if rec.Imported {
			out[rec.Attachment.ContainerID] = append(out[rec.Attachment.ContainerID], rec.Attachment)
		}
	}
	return out, err
}

// Held returns the attachments that the journal has, in no order.
func Held(tx *journal.Tx) ([]Attachment, error) {
	records, err := decodeAll(tx.All())
	out := make([]Attachment, len(records))
	for i, r := range records {
		out[i] = r.Attachment
	}
	return out, err
}
