package cni

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/tendril-cni/tendril/cni/journal"
	"github.com/tendril-cni/tendril/ipam"
)

// Recover brings the node to a state before or after every call that an earlier
// daemon did not finish (invariant 3). It runs before the first request.
//
// After a reboot the kernel has forgotten links and VF settings: their records
// go. Networks of foreign plugins keep state on disk: their records stay for
// the DEL that the runtime still owes.
//
// The status of every pod that is attached is reported again: an earlier daemon
// may have ended with it unwritten.
func (e *Engine) Recover(ctx context.Context) error {
	var boot string
	var all []Record
	err := e.Journal.View(func(tx *journal.Tx) (err error) {
		boot = tx.Boot()
		all, err = decodeAll(tx.All())
		return err
	})
	if err != nil {
		return err
	}
	if boot != e.BootID {
		return e.afterReboot(ctx, all)
	}
	if err := e.undoUnfinished(ctx, all); err != nil {
		return err
	}
	if err := e.undoPlugging(ctx, all); err != nil {
		return err
	}
	return e.publishAll()
}

// publishAll reports the status of every pod all of whose attachments are there.
// A pod of which two sandboxes are known is left alone: which of them is the
// living one shows when the other's DEL comes.
func (e *Engine) publishAll() error {
	all, err := e.all()
	if err != nil {
		return err
	}
	pods := map[PodRef][]Record{}
	for _, r := range all {
		pods[r.Attachment.Pod] = append(pods[r.Attachment.Pod], r)
	}
	for pod, records := range pods {
		whole := !slices.ContainsFunc(records, func(r Record) bool {
			return r.Phase != Attached || r.Attachment.ContainerID != records[0].Attachment.ContainerID
		})
		if whole && pod.Name != "" {
			e.Report.Publish(pod, Statuses(records))
		}
	}
	return nil
}

// afterReboot drops the records of what died with the kernel. Address files may lie
// on a disk: no sandbox of an earlier boot is alive, so they are freed before the
// first pod asks. Where that fails, the record stays for the DEL, too.
func (e *Engine) afterReboot(ctx context.Context, all []Record) error {
	dead := filter(all, func(r Record) bool {
		if r.Attachment.Kind == KindExec {
			return false
		}
		err := e.leave(ctx, Request{}, r)
		if err != nil {
			e.Log.WarnContext(ctx, "addresses of an earlier boot not freed yet", "container", r.Attachment.ContainerID, "network", r.Attachment.Network, "error", err)
		}
		return err == nil
	})
	if len(dead) > 0 {
		e.Log.Info("records of an earlier boot dropped", "count", len(dead))
	}
	return e.Journal.Update("reboot", func(tx *journal.Tx) error {
		for _, r := range dead {
			if err := drop(tx, r); err != nil {
				return err
			}
		}
		// While the node was down it may have been taken for gone: what it has of the
		// cluster's addresses is asked again before it is used.
		ledger := ipam.NewLedger(tx.Bucket(journal.Addresses))
		if ledger.Distrust(); ledger.Err() != nil {
			return ledger.Err()
		}
		return tx.SetBoot(e.BootID)
	})
}

// undoUnfinished detaches every call of which any attachment is still an
// intent: its runtime never got a result. A detach that cannot be made now
// leaves its record; the runtime's DEL, or the next start, tries again.
func (e *Engine) undoUnfinished(ctx context.Context, all []Record) error {
	for call, records := range unfinished(all) {
		ctx, r := e.departFor(ctx, Request{ContainerID: call.container, IfName: call.ifName}, VerbRecover, records[0].Attachment.Pod)
		err := r.landed(PodRef{}, e.detachAll(ctx, r, records))
		if err != nil && !errors.Is(err, errNoRunner) {
			e.Log.WarnContext(ctx, "an unfinished ADD could not be undone yet", "container", call.container, "error", err)
		}
		if ctx.Err() != nil {
			return fmt.Errorf("undo unfinished calls: %w", ctx.Err())
		}
	}
	return nil
}

// callKey names one ADD: container and CNI_IFNAME.
type callKey struct{ container, ifName string }

func byCall(all []Record) map[callKey][]Record {
	calls := map[callKey][]Record{}
	for _, r := range all {
		k := callKey{r.Attachment.ContainerID, r.Attachment.Call}
		calls[k] = append(calls[k], r)
	}
	return calls
}

// unfinished returns the calls that have an intent among their records.
func unfinished(all []Record) map[callKey][]Record {
	calls := byCall(all)
	for k, records := range calls {
		if !slices.ContainsFunc(records, func(r Record) bool { return r.Phase == Intent }) {
			delete(calls, k)
		}
	}
	return calls
}
