package machine

import (
	"context"
	"path/filepath"

	"github.com/tendril-cni/tendril/tests/lab/cache"
)

// DiskImage makes an artefact of the disk image of a directory tree, filled by
// build, to be given to machines as a [Disk]. It is how programs that are
// larger than a few megabytes get into a machine: it reads them when they are
// used, and faster than over the shared directory.
func DiskImage(ctx context.Context, name, key, size string, build func(ctx context.Context, dir string) error) (string, error) {
	guest, err := guestTree(ctx)
	if err != nil {
		return "", err
	}
	dir, err := cache.Artefact(ctx, name, cache.Key(key, size, imageFormat), func(ctx context.Context, dir string) error {
		return cache.Temporary(dir, func(files string) error {
			if err := build(ctx, files); err != nil {
				return err
			}
			cache.Report(ctx, "writing disk")
			return makeDisk(ctx, guest, files, filepath.Join(dir, "disk.img"), size)
		})
	})
	return filepath.Join(dir, "disk.img"), err
}

// WriteDisk writes the disk image of a directory tree that is different each time,
// so that nobody would keep it.
func WriteDisk(ctx context.Context, image, size, dir string) error {
	guest, err := guestTree(ctx)
	if err != nil {
		return err
	}
	return makeDisk(ctx, guest, dir, image, size)
}
