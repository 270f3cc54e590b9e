package deviceplugin_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/tendril-cni/tendril/cni/refusal"
	"github.com/tendril-cni/tendril/deviceplugin"
)

// mount is a ConfigMap as the kubelet's atomic writer lays it out: the files are
// links through ..data, which is renamed into place.
type mount struct {
	t    *testing.T
	dir  string
	made int
}

func newMount(t *testing.T, config string) *mount {
	m := &mount{t: t, dir: t.TempDir()}
	m.set(config)
	m.must(os.Symlink("..data/config.json", m.path()))
	return m
}

func (m *mount) path() string { return filepath.Join(m.dir, "config.json") }

func (m *mount) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m *mount) set(config string) {
	m.t.Helper()
	m.made++
	name := fmt.Sprintf("..2026_11_20_%d", m.made)
	m.must(os.Mkdir(filepath.Join(m.dir, name), 0o755))
	m.must(os.WriteFile(filepath.Join(m.dir, name, "config.json"), []byte(config), 0o644))
	m.must(os.Symlink(name, filepath.Join(m.dir, "..data_tmp")))
	old, _ := os.Readlink(filepath.Join(m.dir, "..data"))
	m.must(os.Rename(filepath.Join(m.dir, "..data_tmp"), filepath.Join(m.dir, "..data")))
	if old != "" {
		m.must(os.RemoveAll(filepath.Join(m.dir, old)))
	}
}

// followed is a File at work, and what it said last.
type followed struct {
	*deviceplugin.File
	log syncBuffer
	// mu guards names.
	mu    sync.Mutex
	names string
}

func follow(t *testing.T, path, good string) *followed {
	t.Helper()
	return followWith(t, deviceplugin.FileOptions{Path: path, Prefix: "intel.com", Good: good})
}

func followWith(t *testing.T, o deviceplugin.FileOptions) *followed {
	f := &followed{}
	o.Log = slog.New(slog.NewTextHandler(&f.log, nil))
	file, cfg := deviceplugin.OpenFile(o)
	f.File = file
	f.take(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- file.Run(ctx, f.take) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return f
}

func (f *followed) take(cfg deviceplugin.Config) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.names = ""
	for _, r := range cfg.Resources {
		f.names += r.Name + " "
	}
}

func (f *followed) says(t *testing.T, names string, err string) {
	t.Helper()
	waitFor(t, func() (string, bool) {
		f.mu.Lock()
		defer f.mu.Unlock()
		is := f.Err()
		ok := f.names == names && (err == "") == (is == nil) && (is == nil || strings.Contains(is.Error(), err))
		return fmt.Sprintf("resources %q, error %v; want %q, %q", f.names, is, names, err), ok
	})
}

func named(name string) string {
	return fmt.Sprintf(`{"resourceList":[{"resourceName":%q,"selectors":{}}]}`, name)
}

// TestFileFollowed: each change of a mounted ConfigMap, good, bad, and good
// again.
func TestFileFollowed(t *testing.T) {
	m := newMount(t, named("one"))
	f := follow(t, m.path(), "")
	f.says(t, "one ", "")
	m.set(named("two"))
	f.says(t, "two ", "")
	m.set(`{"resourceList":[{"resourceName":"three","selectors":{"pfNames":["eth0#x"]}}]}`)
	f.says(t, "two ", `config.json" resource "intel.com/three": field resourceList[0].selectors.pfNames[0]: value "eth0#x" is not allowed`)
	var r *refusal.Refusal
	if !errors.As(f.Err(), &r) {
		t.Errorf("%T is no refusal", f.Err())
	}
	if n := strings.Count(f.log.String(), "level=WARN"); n != 1 {
		t.Errorf("said %d times:\n%s", n, f.log.String())
	}
	m.set(named("two"))
	f.says(t, "two ", "")
	m.set(named("four"))
	f.says(t, "four ", "")
}

// TestFilePlain: a file that is written in place, removed, and made again.
func TestFilePlain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.json")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(named("one"))
	f := follow(t, path, "")
	f.says(t, "one ", "")
	write(named("two"))
	f.says(t, "two ", "")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	f.says(t, "two ", "nothing readable")
	write("")
	f.says(t, "two ", "the text ends early")
	write(named("two"))
	f.says(t, "two ", "")
}

// TestFileLastGood: a restart beside a bad file serves what was good before; the
// first start does without pools.
func TestFileLastGood(t *testing.T) {
	path, good := filepath.Join(t.TempDir(), "config.json"), filepath.Join(t.TempDir(), "pools.json")
	first := follow(t, path, good)
	first.says(t, "", "nothing readable")
	if err := os.WriteFile(path, []byte(named("one")), 0o644); err != nil {
		t.Fatal(err)
	}
	first.says(t, "one ", "")
	if err := os.WriteFile(path, []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	first.says(t, "one ", "line 1 column 2")
	again := follow(t, path, good)
	again.says(t, "one ", "line 1 column 2")
	if err := os.WriteFile(good, []byte("{"), 0o644); err == nil {
		follow(t, path, good).says(t, "", "line 1 column 2")
	}
}

// TestNoFile: no path is no pools, and no error.
func TestNoFile(t *testing.T) {
	follow(t, "", "").says(t, "", "")
}

// TestOptionalFile: before somebody makes the ConfigMap nothing is wrong, after it
// its absence is.
func TestOptionalFile(t *testing.T) {
	path, good := filepath.Join(t.TempDir(), "config.json"), filepath.Join(t.TempDir(), "pools.json")
	optional := func() *followed {
		return followWith(t, deviceplugin.FileOptions{Path: path, Prefix: "intel.com", Good: good, Optional: true})
	}
	f := optional()
	f.says(t, "", "")
	if err := os.WriteFile(path, []byte(named("one")), 0o644); err != nil {
		t.Fatal(err)
	}
	f.says(t, "one ", "")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	f.says(t, "one ", "nothing readable")
	optional().says(t, "one ", "nothing readable")
}

// TestFileToPools: a bad configuration leaves the kubelet with the pools it has,
// a good one changes them without a restart.
func TestFileToPools(t *testing.T) {
	k := newKubelet(t, true)
	k.start()
	m := newMount(t, twoPools)
	file, cfg := deviceplugin.OpenFile(deviceplugin.FileOptions{Path: m.path(), Prefix: "intel.com", Log: slog.New(slog.DiscardHandler)})
	p, _ := plugin(t, deviceplugin.Options{KubeletRoot: k.root, Config: cfg, Inventory: &inventory{snap: nic(4, "igbvf")}})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- file.Run(ctx, p.Reload) }()
	defer func() { cancel(); <-ended }()
	k.shows(low, none)
	stays := k.client("intel.com/low")
	m.set(`{"resourceList":[{"resourceName":"low"}]}`)
	waitFor(t, func() (string, bool) { return "not refused", file.Err() != nil })
	k.shows(low, none)
	m.set(`{"resourceList":[{"resourceName":"low","selectors":{"pfNames":["ens4#0"]}},{"resourceName":"new","selectors":{}}]}`)
	k.shows("intel.com/low: 01:10.0@0", "intel.com/new: 01:10.2@0 01:10.4@0 01:10.6@0")
	if k.client("intel.com/low") != stays || file.Err() != nil {
		t.Errorf("registered again, or %v", file.Err())
	}
}
