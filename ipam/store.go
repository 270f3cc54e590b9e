package ipam

// Store is the durable map in which reservations live. Keys and values belong
// to this package; whoever implements Store makes the calls of one Reserve or
// Release part of one transaction. *bbolt.Bucket satisfies it.
type Store interface {
	// Get returns nil when key is absent. The bytes are valid only until the
	// next call.
	Get(key []byte) []byte
	Put(key, value []byte) error
	// Delete of an absent key succeeds.
	Delete(key []byte) error
}
