package cache

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// EnvRoot is the environment variable that moves the cache folder.
const EnvRoot = "TENDRIL_LAB_CACHE"

// modulePath marks the root of the repository.
const modulePath = "github.com/tendril-cni/tendril"

// Root returns the cache folder: $TENDRIL_LAB_CACHE, or .lab at the root of the
// repository that the working directory is in. It is made if it is not there.
func Root() (string, error) {
	dir := os.Getenv(EnvRoot)
	if dir == "" {
		repo, err := Repo()
		if err != nil {
			return "", err
		}
		dir = filepath.Join(repo, ".lab")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	return dir, os.MkdirAll(dir, 0o755)
}

// Repo returns the root of the repository that the working directory is in.
func Repo() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && bytes.HasPrefix(mod, []byte("module "+modulePath+"\n")) {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("find repository: no go.mod of %s above %s (run inside the repository, or set %s)", modulePath, start, EnvRoot)
		}
	}
}

// Key hashes inputs into the short name that tells one version of an artefact
// from another. Parts are separated, so ("ab","c") and ("a","bc") differ.
func Key(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return hex.EncodeToString(h.Sum(nil))[:16]
}

// KeyFiles hashes the names and contents of files; a directory stands for every
// regular file below it.
func KeyFiles(paths ...string) (string, error) {
	h := sha256.New()
	for _, root := range paths {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			rel, err := filepath.Rel(filepath.Dir(root), path)
			if err != nil {
				return err
			}
			return hashFile(h, rel, path)
		})
		if err != nil {
			return "", fmt.Errorf("hash %s: %w", root, err)
		}
	}
	return hex.EncodeToString(h.Sum(nil))[:16], nil
}

func hashFile(h io.Writer, name, path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	fmt.Fprintf(h, "%d:%s%d:", len(name), name, len(data))
	_, err = h.Write(data)
	return err
}

// Artefact returns the directory of the artefact called name whose inputs hash
// to key, and calls build to fill it if it is not there yet. The build gets an
// empty directory that is renamed into place when it returns nil; it may call
// [Report] with its context to say how far it is.
//
// Paths inside the artefact must not be relied upon while it is being built:
// the directory moves.
func Artefact(ctx context.Context, name, key string, build func(ctx context.Context, dir string) error) (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	final := filepath.Join(root, name, key)
	if exists(final) {
		return final, nil
	}
	unlock, err := lock(ctx, filepath.Join(root, "lock", name+"-"+key), name)
	if err != nil {
		return "", err
	}
	defer unlock()
	if exists(final) {
		return final, nil
	}
	temp := filepath.Join(root, "tmp", name+"-"+key)
	if err := fill(ctx, name, temp, build); err != nil {
		return "", errors.Join(fmt.Errorf("build %s: %w", name, err), removeTree(temp))
	}
	if err := os.MkdirAll(filepath.Dir(final), 0o755); err != nil {
		return "", err
	}
	return final, os.Rename(temp, final)
}

// cached returns the directory of an artefact that is there already.
func cached(name, key string) (string, bool) {
	root, err := Root()
	if err != nil {
		return "", false
	}
	dir := filepath.Join(root, name, key)
	return dir, exists(dir)
}

// fill runs one build in a fresh directory and prints its progress.
func fill(ctx context.Context, name, temp string, build func(context.Context, string) error) error {
	// A build that was killed leaves its directory behind; the lock says that
	// nobody is using it.
	if err := removeTree(temp); err != nil {
		return err
	}
	if err := os.MkdirAll(temp, 0o755); err != nil {
		return err
	}
	ctx, p := begin(ctx, name)
	err := build(ctx, temp)
	p.end(err)
	return err
}

// removeTree removes a directory whose files may have been unpacked read-only.
func removeTree(dir string) error {
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			_ = os.Chmod(path, 0o755)
		}
		return nil
	})
	return os.RemoveAll(dir)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// lock takes the lock file at path, waiting for whoever has it, and says so
// when that takes a while.
func lock(ctx context.Context, path, what string) (unlock func(), err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, err
	}
	started := time.Now()
	for tries := 0; ; tries++ {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			_ = f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		if tries%100 == 10 {
			say("waiting for another process that is building %s (%s)", what, since(started))
		}
		select {
		case <-ctx.Done():
			_ = f.Close()
			return nil, fmt.Errorf("wait for %s: %w", what, ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// Temporary calls use with an empty directory below dir and removes it after.
func Temporary(dir string, use func(temp string) error) error {
	temp, err := os.MkdirTemp(dir, "temporary-")
	if err != nil {
		return err
	}
	return errors.Join(use(temp), removeTree(temp))
}
