package cache

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// A PackageSet says which packages to unpack and what of them to keep.
type PackageSet struct {
	// Names are the packages wanted; what they depend on comes with them.
	Names []string
	// Only, if set, is a list of package name prefixes: others of the closure
	// are not fetched. A kernel is wanted without its bootloader hooks.
	Only []string
	// Skip lists path prefixes, such as "usr/share/doc", that are not unpacked.
	Skip []string
	// Keep, if set, lists the only path prefixes that are unpacked.
	Keep []string
}

func (s PackageSet) key() string {
	return Key(strings.Join(s.Names, " "), strings.Join(s.Only, " "), strings.Join(s.Skip, " "), strings.Join(s.Keep, " "))
}

func (s PackageSet) wants(name string) bool {
	if len(s.Only) == 0 {
		return true
	}
	for _, p := range s.Only {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}

// unpackFormat changes when the same packages would be unpacked differently.
const unpackFormat = "1"

// Packages returns the artefact called name: the packages of set and all they
// depend on, from the machine's own mirror, unpacked into one merged-/usr tree.
// No maintainer script runs and nothing is installed.
func Packages(ctx context.Context, name string, set PackageSet) (Tree, error) {
	x, err := openIndex(ctx)
	if err != nil {
		return "", err
	}
	dir, err := Artefact(ctx, name, Key(unpackFormat, x.plan.name, set.key()), func(ctx context.Context, dir string) error {
		return x.install(ctx, set, dir)
	})
	return Tree(dir), err
}

// install downloads the packages of set and unpacks them into dir.
func (x *index) install(ctx context.Context, set PackageSet, dir string) error {
	all, err := x.closure(ctx, set.Names)
	if err != nil {
		return err
	}
	var debs []deb
	for _, d := range all {
		if set.wants(d.name()) {
			debs = append(debs, d)
		}
	}
	if len(debs) == 0 {
		return fmt.Errorf("resolve %s: apt names nothing to download", strings.Join(set.Names, " "))
	}
	archives := dir + ".debs"
	defer func() { _ = removeTree(archives) }()
	if err := x.download(ctx, debs, archives); err != nil {
		return err
	}
	for i, d := range debs {
		Report(ctx, "unpacking %d of %d packages", i+1, len(debs))
		if err := unpack(ctx, filepath.Join(archives, d.file), dir, set); err != nil {
			return fmt.Errorf("unpack %s: %w", d.file, err)
		}
	}
	return finishTree(dir)
}

// download fetches exactly the given packages, checked by apt against its lists.
func (x *index) download(ctx context.Context, debs []deb, archives string) error {
	if err := os.MkdirAll(archives, 0o755); err != nil {
		return err
	}
	var total int64
	args := []string{"download"}
	for _, d := range debs {
		total += d.size
		args = append(args, d.name()+"="+d.version())
	}
	stop := make(chan struct{})
	defer close(stop)
	go reportSize(ctx, archives, total, stop)
	_, err := x.apt(ctx, archives, "apt-get", args...)
	return err
}

// reportSize turns the growth of a directory into progress.
func reportSize(ctx context.Context, dir string, total int64, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(time.Second):
		}
		var have int64
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			if info, err := e.Info(); err == nil {
				have += info.Size()
			}
		}
		Report(ctx, "downloaded %d of %d MB", have>>20, total>>20)
	}
}
