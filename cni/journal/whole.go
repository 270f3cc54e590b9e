package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
)

// Of bbolt's file format, version 2 (go.etcd.io/bbolt, internal/common: page.go,
// meta.go): a meta lies behind the header of each of the first two pages.
const (
	pageHeader  = 16
	metaSize    = 64
	metaMagic   = 0xed0cdaed
	atPageSize  = 8
	atHighWater = 40
	atTxID      = 48
	atChecksum  = 56
)

// errTruncated: the file ends before what it says is in it.
var errTruncated = errors.New("the file is cut off")

// whole refuses a file that is shorter than its own description. bbolt maps the
// file and reads it on goroutines of its own: what is not there faults, and the
// process ends whatever anybody recovers.
func whole(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() == 0 {
		return fmt.Errorf("%w: it is empty", errTruncated) // to bbolt it would be a new one
	}
	need, err := described(f)
	if err == nil && info.Size() < need {
		err = fmt.Errorf("%w: it has %d of %d bytes", errTruncated, info.Size(), need)
	}
	return err
}

// described is the size in bytes that the newest valid meta gives; 0 when there is
// none, which bbolt reports itself.
func described(f io.ReaderAt) (size int64, err error) {
	var newest uint64
	page := int64(os.Getpagesize())
	for _, at := range []int64{0, page} {
		meta := make([]byte, metaSize)
		_, err := f.ReadAt(meta, at+pageHeader)
		if errors.Is(err, io.EOF) {
			return 0, fmt.Errorf("%w: a meta page is missing", errTruncated)
		}
		if err != nil {
			return 0, err
		}
		sum := fnv.New64a()
		_, _ = sum.Write(meta[:atChecksum])
		order := binary.NativeEndian
		if order.Uint32(meta) != metaMagic || order.Uint64(meta[atChecksum:]) != sum.Sum64() {
			continue
		}
		if id := order.Uint64(meta[atTxID:]); id >= newest {
			newest = id
			size = int64(order.Uint64(meta[atHighWater:])) * int64(order.Uint32(meta[atPageSize:]))
		}
	}
	return size, nil
}
