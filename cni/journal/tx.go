package journal

import (
	"bytes"
	"fmt"
	"strings"

	bolt "go.etcd.io/bbolt"
)

// Buckets that other domains use inside a transaction.
const (
	// Addresses holds what package ipam keeps.
	Addresses = "addresses"
	// Devices holds which attachment has which device.
	Devices = "devices"
	// Allocations holds what the device plugin handed to the kubelet.
	Allocations = "allocations"
	// VFs holds what VF provisioning and quarantine keep.
	VFs = "vfs"
	// Leases holds what package dhcp keeps, by the client's name.
	Leases = "leases"
)

const (
	recordsBucket = "records"
	metaBucket    = "meta"
	bootKey       = "boot"
)

// Tx is one transaction. Byte slices that it returns are copies unless a method
// says otherwise.
type Tx struct{ tx *bolt.Tx }

// Entry is one record with its key.
type Entry struct {
	Container, IfName string
	Data              []byte
}

// KV is a named bucket. Its methods are those of *bbolt.Bucket.
type KV interface {
	// Get returns nil for an absent key; the bytes live as long as the Tx.
	Get(key []byte) []byte
	Put(key, value []byte) error
	Delete(key []byte) error
	ForEach(fn func(key, value []byte) error) error
}

func prepare(tx *bolt.Tx) error {
	for _, name := range []string{recordsBucket, metaBucket, Addresses, Devices, Allocations, VFs, Leases} {
		if _, err := tx.CreateBucketIfNotExists([]byte(name)); err != nil {
			return fmt.Errorf("bucket %s: %w", name, err)
		}
	}
	return nil
}

// Bucket returns one of the named buckets.
func (t *Tx) Bucket(name string) KV { return t.tx.Bucket([]byte(name)) }

// Boot returns the boot id under which the journal was last declared valid, or
// "" if it never was.
func (t *Tx) Boot() string {
	return string(t.tx.Bucket([]byte(metaBucket)).Get([]byte(bootKey)))
}

// SetBoot declares the journal valid for the boot id.
func (t *Tx) SetBoot(id string) error {
	return t.tx.Bucket([]byte(metaBucket)).Put([]byte(bootKey), []byte(id))
}

// Put writes the record of container and interface.
func (t *Tx) Put(container, ifName string, data []byte) error {
	return t.records().Put(key(container, ifName), data)
}

// Delete removes a record; removing an absent one succeeds.
func (t *Tx) Delete(container, ifName string) error {
	return t.records().Delete(key(container, ifName))
}

// Container returns the records of one container, by interface name.
func (t *Tx) Container(container string) []Entry {
	prefix := key(container, "")
	var out []Entry
	c := t.records().Cursor()
	for k, v := c.Seek(prefix); k != nil && bytes.HasPrefix(k, prefix); k, v = c.Next() {
		out = append(out, entry(k, v))
	}
	return out
}

// All returns every record, by container and interface name.
func (t *Tx) All() []Entry {
	var out []Entry
	c := t.records().Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		out = append(out, entry(k, v))
	}
	return out
}

func (t *Tx) records() *bolt.Bucket { return t.tx.Bucket([]byte(recordsBucket)) }

// key joins with NUL, which neither a container ID nor an interface name holds.
func key(container, ifName string) []byte { return []byte(container + "\x00" + ifName) }

func entry(k, v []byte) Entry {
	container, ifName, _ := strings.Cut(string(k), "\x00")
	return Entry{Container: container, IfName: ifName, Data: bytes.Clone(v)}
}
