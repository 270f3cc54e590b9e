package machine

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/tendril-cni/tendril/tests/lab/cache"
)

// earlyModules are what the machine needs before it has its root file system,
// and the drivers of the emulated machine itself. ext4 asks for its checksum by
// name at run time, so that one is not among its dependencies.
var earlyModules = []string{"virtio_pci", "virtio_blk", "crc32c_generic", "ext4", "virtio_net", "virtio_rng", "9pnet_virtio", "9p"}

// writeInitrd writes the first root: busybox, the early modules in the order to
// load them, and the script that mounts the real root. It is not compressed:
// an emulated CPU copies faster than it decompresses.
func writeInitrd(ctx context.Context, path string, guest cache.Tree, modules string) error {
	busybox, err := os.ReadFile(guest.Path("usr/bin/busybox"))
	if err != nil {
		return err
	}
	early, err := loadOrder(filepath.Join(modules, "modules.dep"), earlyModules)
	if err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	buffered := bufio.NewWriter(f)
	archive := &cpioWriter{w: buffered}
	for _, dir := range []string{"bin", "dev", "modules", "proc", "root", "sys"} {
		archive.dir(dir)
	}
	archive.file("bin/busybox", busybox)
	archive.file("init", initScript)
	var list strings.Builder
	for _, module := range early {
		data, err := plainModule(ctx, guest, filepath.Join(modules, module))
		if err != nil {
			return errors.Join(err, f.Close())
		}
		name := filepath.Base(strings.TrimSuffix(module, filepath.Ext(module)))
		archive.file("modules/"+name, data)
		fmt.Fprintln(&list, name)
	}
	archive.file("modules/list", []byte(list.String()))
	return errors.Join(archive.close(), buffered.Flush(), f.Close())
}

// loadOrder reads modules.dep and returns the files of the named modules and
// all they need, each after what it needs. Modules that the kernel has built in
// are not in modules.dep and are left out.
func loadOrder(dep string, names []string) ([]string, error) {
	data, err := os.ReadFile(dep)
	if err != nil {
		return nil, err
	}
	needs, fileOf := map[string][]string{}, map[string]string{}
	for line := range strings.Lines(string(data)) {
		file, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		needs[file] = strings.Fields(rest)
		name, _, _ := strings.Cut(filepath.Base(file), ".")
		fileOf[strings.ReplaceAll(name, "-", "_")] = file
	}
	var order []string
	seen := map[string]bool{}
	var visit func(file string)
	visit = func(file string) {
		if file == "" || seen[file] {
			return
		}
		seen[file] = true
		for _, n := range needs[file] {
			visit(n)
		}
		order = append(order, file)
	}
	for _, n := range names {
		visit(fileOf[n])
	}
	return order, nil
}

// plainModule returns a module decompressed: busybox cannot load it otherwise.
func plainModule(ctx context.Context, guest cache.Tree, path string) ([]byte, error) {
	program := ""
	switch filepath.Ext(path) {
	case ".xz":
		program = "usr/bin/xz"
	case ".zst":
		program = "usr/bin/zstd"
	default:
		return os.ReadFile(path)
	}
	out, err := guest.Command(ctx, program, "-dc", path).Output()
	if err != nil {
		return nil, fmt.Errorf("decompress %s: %w", path, err)
	}
	return out, nil
}
