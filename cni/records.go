package cni

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/tendril-cni/tendril/cni/journal"
	"github.com/tendril-cni/tendril/cni/refusal"
	"github.com/tendril-cni/tendril/ipam"
)

func decodeAll(entries []journal.Entry) ([]Record, error) {
	out := make([]Record, 0, len(entries))
	for _, e := range entries {
		var r Record
		if err := json.Unmarshal(e.Data, &r); err != nil {
			return nil, fmt.Errorf("decode record %s/%s: %w", e.Container, e.IfName, err)
		}
		out = append(out, r)
	}
	slices.SortStableFunc(out, func(a, b Record) int { return cmp.Compare(a.Order, b.Order) })
	return out, nil
}

func put(tx *journal.Tx, r Record) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return tx.Put(r.Attachment.ContainerID, r.Attachment.IfName, data)
}

func putAll(tx *journal.Tx, records []Record) error {
	for _, r := range records {
		if err := put(tx, r); err != nil {
			return err
		}
	}
	return nil
}

// drop removes a record and everything that is held in its name.
func drop(tx *journal.Tx, r Record) error {
	a := r.Attachment
	if err := ipam.Release(tx.Bucket(journal.Addresses), a.Config.Name, owner(a)); err != nil {
		return err
	}
	if a.Device != "" && holder(tx, a.Device) == key(a) {
		if err := tx.Bucket(journal.Devices).Delete([]byte(a.Device)); err != nil {
			return err
		}
	}
	return tx.Delete(a.ContainerID, a.IfName)
}

// unclaimed refuses an interface that another call's ADD has made in the same
// sandbox: one that fails on it would undo what is not its own.
func unclaimed(tx *journal.Tx, records []Record) error {
	if len(records) == 0 {
		return nil
	}
	there, err := decodeAll(tx.Container(records[0].Attachment.ContainerID))
	if err != nil {
		return err
	}
	for _, old := range there {
		for _, rec := range records {
			if a, has := rec.Attachment, old.Attachment; a.IfName == has.IfName && a.Call != has.Call {
				return refusal.New(fmt.Sprintf("container %s network %s", a.ContainerID, a.Network), "interface", a.IfName,
					fmt.Sprintf("a name that the sandbox does not have yet; %s has it since the ADD of %s", has.Network, has.Call))
			}
		}
	}
	return nil
}

// hold makes the attachment the one owner of its device (invariant 4).
func hold(tx *journal.Tx, a Attachment) error {
	if a.Device == "" {
		return nil
	}
	if by := holder(tx, a.Device); by != "" && by != key(a) {
		return &InUse{Device: a.Device, Holder: by}
	}
	return tx.Bucket(journal.Devices).Put([]byte(a.Device), []byte(key(a)))
}

func holder(tx *journal.Tx, device string) string {
	return string(tx.Bucket(journal.Devices).Get([]byte(device)))
}

// key names an attachment for people and for the index of devices.
func key(a Attachment) string {
	return fmt.Sprintf("pod %s interface %s (container %s)", a.Pod, a.IfName, a.ContainerID)
}

func owner(a Attachment) ipam.Owner {
	return ipam.Owner{Container: a.ContainerID, IfName: a.IfName, Pod: a.Pod.String(), UID: a.Pod.UID, Claim: a.Claim}
}

func filter(in []Record, keep func(Record) bool) []Record {
	return slices.DeleteFunc(in, func(r Record) bool { return !keep(r) })
}
