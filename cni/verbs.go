package cni

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/tendril-cni/tendril/cni/journal"
)

// codeUnavailable is the specification's answer of STATUS while ADD cannot be
// served (section "STATUS", code 50).
const codeUnavailable = 50

// Check says whether the journal has every attachment of the call as attached.
func (e *Engine) Check(_ context.Context, r Request) error {
	records, err := e.records(r.ContainerID, r.IfName)
	if err != nil {
		return err
	}
	if len(records) == 0 {
		return fmt.Errorf("check container %s: nothing is attached for interface %s", r.ContainerID, r.IfName)
	}
	for _, rec := range records {
		if rec.Phase != Attached {
			return fmt.Errorf("check container %s: network %s on %s is not attached (%s)", r.ContainerID, rec.Attachment.Network, rec.Attachment.IfName, rec.Phase)
		}
	}
	return nil
}

// Status says whether an ADD could be served now: the caches are filled and a
// default network is configured. The error has code 50 of the specification.
func (e *Engine) Status(context.Context) error {
	if err := e.Ready(); err != nil {
		return &types.Error{Code: codeUnavailable, Msg: "tendril is not ready", Details: err.Error()}
	}
	if _, err := e.Default(); err != nil {
		return &types.Error{Code: codeUnavailable, Msg: "no default network", Details: err.Error()}
	}
	return nil
}

// GC detaches everything that the runtime does not list as valid. The runtime
// calls no other verb meanwhile (specification, section "GC").
func (e *Engine) GC(ctx context.Context, r Request) error {
	var conf struct {
		Valid *[]types.GCAttachment `json:"cni.dev/valid-attachments"`
	}
	if err := json.Unmarshal(r.Config, &conf); err != nil {
		return fmt.Errorf("gc: decode configuration: %w", err)
	}
	if conf.Valid == nil {
		// No list is not an empty list: it would detach every pod of the node.
		return fmt.Errorf("gc: configuration has no cni.dev/valid-attachments")
	}
	valid := map[callKey]bool{}
	for _, v := range *conf.Valid {
		valid[callKey{v.ContainerID, v.IfName}] = true
	}
	var all []Record
	err := e.Journal.View(func(tx *journal.Tx) (err error) {
		all, err = decodeAll(tx.All())
		return err
	})
	errs := []error{err}
	for call := range byCall(all) {
		if !valid[call] {
			errs = append(errs, e.Del(ctx, Request{ContainerID: call.container, IfName: call.ifName, Path: r.Path, Run: r.Run}))
		}
	}
	return errors.Join(errs...)
}
