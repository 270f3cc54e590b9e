package install_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tendril-cni/tendril/cmd/tendrild/install"
	"github.com/tendril-cni/tendril/cni/delegate"
)

const patience = 20 * time.Second

// guarded starts a guard and returns what it tells.
func guarded(t *testing.T, dir string) (restored chan string, shadowed chan []string) {
	t.Helper()
	if _, err := install.Conf(dir, settings); err != nil {
		t.Fatal(err)
	}
	restored, shadowed = make(chan string, 100), make(chan []string, 100)
	g := &install.Guard{Dir: dir, Conf: settings, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Restored: func(what string) { restored <- what }, Shadowed: func(files []string) { shadowed <- files }}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("guard: %v", err)
		}
	})
	return restored, shadowed
}

func next[T any](t *testing.T, from chan T) (out T) {
	t.Helper()
	select {
	case out = <-from:
	case <-time.After(patience):
		t.Fatal("the guard told nothing")
	}
	return out
}

func confPath(dir string) string { return filepath.Join(dir, install.ConfName) }

// TestInvariant1GuardRestoresTheConfiguration: without the file a pod would get
// its default network alone.
func TestInvariant1GuardRestoresTheConfiguration(t *testing.T) {
	for name, does := range map[string]struct {
		harm func(t *testing.T, dir string) error
		want string
	}{
		"renamed as an exclusive CNI does": {func(_ *testing.T, dir string) error { return os.Rename(confPath(dir), confPath(dir)+".cilium_bak") }, "renamed or deleted"},
		"deleted":                          {func(_ *testing.T, dir string) error { return os.Remove(confPath(dir)) }, "renamed or deleted"},
		"truncated":                        {func(_ *testing.T, dir string) error { return os.Truncate(confPath(dir), 0) }, "empty"},
		"overwritten": {func(_ *testing.T, dir string) error {
			// Opened without O_TRUNC: there is no moment in which it is empty.
			f, err := os.OpenFile(confPath(dir), os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteString(`{"name":"x"}`)
			return errors.Join(err, f.Close())
		}, "changed"},
		"replaced": {func(t *testing.T, dir string) error {
			other := filepath.Join(t.TempDir(), "other")
			if err := os.WriteFile(other, []byte("{}"), 0o644); err != nil {
				return err
			}
			return os.Rename(other, confPath(dir))
		}, "changed"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			restored, _ := guarded(t, dir)
			want, err := os.ReadFile(confPath(dir))
			if err != nil {
				t.Fatal(err)
			}
			if err := does.harm(t, dir); err != nil {
				t.Fatal(err)
			}
			if got := next(t, restored); got != does.want {
				t.Errorf("the guard found it %q, want %q", got, does.want)
			}
			if got, err := os.ReadFile(confPath(dir)); err != nil || string(got) != string(want) {
				t.Errorf("the file is %q (%v), want %q", got, err, want)
			}
		})
	}
}

// TestGuardedFileIsNeverSeenEmptyAfterItWasRestored looks as a runtime would.
func TestGuardedFileIsNeverSeenEmptyAfterItWasRestored(t *testing.T) {
	dir := t.TempDir()
	restored, _ := guarded(t, dir)
	for range 5 {
		if err := os.Remove(confPath(dir)); err != nil {
			t.Fatal(err)
		}
		for len(restored) == 0 {
			data, err := os.ReadFile(confPath(dir))
			if err == nil && !strings.Contains(string(data), settings.Socket) {
				t.Fatalf("a reader saw %q", data)
			}
		}
		next(t, restored)
	}
}

func TestGuardTellsOfFilesThatTheRuntimeTakesFirst(t *testing.T) {
	dir := t.TempDir()
	_, shadowed := guarded(t, dir)
	first := filepath.Join(dir, "00-multus.conf")
	for _, name := range []string{"10-flannel.conflist", "00-a.cilium_bak"} { // no harm
		if err := os.WriteFile(filepath.Join(dir, name), []byte("{}"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(first, []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := next(t, shadowed); !slices.Equal(got, []string{"00-multus.conf"}) {
		t.Errorf("told of %v, want 00-multus.conf", got)
	}
	if err := os.Remove(first); err != nil {
		t.Fatal(err)
	}
	if got := next(t, shadowed); len(got) != 0 {
		t.Errorf("told of %v, want none any more", got)
	}
}

// TestGuardOutlivesItsDirectory: some installers replace it.
// TestGuardLeavesARightFileAlone: to touch it would tell the runtime, which watches
// the directory too, and the guard itself, which would look, and touch it, for ever.
func TestGuardLeavesARightFileAlone(t *testing.T) {
	dir := t.TempDir()
	if _, err := install.Conf(dir, settings); err != nil {
		t.Fatal(err)
	}
	before := changed(t, confPath(dir))
	_, shadowed := guarded(t, dir)
	for _, name := range []string{"00-a.conf", "00-b.conf"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("{}"), 0o644); err != nil {
			t.Fatal(err)
		}
		next(t, shadowed) // it has looked
	}
	if after := changed(t, confPath(dir)); after != before {
		t.Errorf("the inode was changed at %v; it was right since %v", after, before)
	}
	if err := os.Chmod(confPath(dir), 0o600); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		info, err := os.Stat(confPath(dir))
		if err == nil && info.Mode().Perm() == 0o644 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("the file's mode is not put right: %v, %v", info.Mode(), err)
		}
	}
}

// changed is when a file's inode was last changed.
func changed(t *testing.T, path string) syscall.Timespec {
	t.Helper()
	var s syscall.Stat_t
	if err := syscall.Stat(path, &s); err != nil {
		t.Fatal(err)
	}
	return s.Ctim
}

func TestGuardOutlivesItsDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "net.d")
	restored, _ := guarded(t, dir)
	// The guard may put the file back between two steps of the removal.
	for os.RemoveAll(dir) != nil {
		t.Log("the guard was faster")
	}
	next(t, restored)
	if err := os.Remove(confPath(dir)); err != nil {
		t.Fatal(err)
	}
	next(t, restored)
}

const foreign = `{"cniVersion":"1.0.0","name":"cbr0","plugins":[{"type":"bridge"}]}`

// TestOwnConfigurationIsNeverDelegatedTo, under whatever name another agent keeps
// it.
func TestOwnConfigurationIsNeverDelegatedTo(t *testing.T) {
	dir := t.TempDir()
	if _, err := install.Conf(dir, settings); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(confPath(dir))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"05-copy.conflist": string(data), "06-multus.conf": `{"cniVersion":"1.0.0","name":"m","type":"multus-shim"}`, "10-default.conflist": foreign} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	network, path, err := delegate.Discover(dir, install.Own)
	if err != nil || network.Name != "cbr0" || filepath.Base(path) != "10-default.conflist" {
		t.Errorf("default network is %q from %s (%v), want cbr0", network.Name, path, err)
	}
}

// TestUninstallGivesTheHostBack: the runtime finds what it had before Tendril.
func TestUninstallGivesTheHostBack(t *testing.T) {
	conf, bin := t.TempDir(), t.TempDir()
	before := map[string]string{"00-multus.conf": `{"name":"multus"}`, "10-default.conflist": foreign}
	for name, text := range before {
		if err := os.WriteFile(filepath.Join(conf, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	names, err := install.Displace(conf)
	if err != nil || !slices.Equal(names, []string{"00-multus.conf"}) {
		t.Fatalf("displaced %v (%v), want 00-multus.conf", names, err)
	}
	if _, err := install.Conf(conf, settings); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bin, install.ShimName), []byte("shim"), 0o755); err != nil {
		t.Fatal(err)
	}
	if first := firstConf(t, conf); first != install.ConfName {
		t.Fatalf("the runtime takes %s, want Tendril's", first)
	}
	for i := range 2 {
		did, err := install.Uninstall(conf, bin)
		if err != nil || i == 0 && len(did) != 3 || i == 1 && len(did) != 0 {
			t.Fatalf("uninstall %d did %v (%v)", i, did, err)
		}
	}
	entries, _ := os.ReadDir(conf)
	if len(entries) != len(before) {
		t.Errorf("%d files are left in the configuration directory, want %d", len(entries), len(before))
	}
	for name, text := range before {
		if got, err := os.ReadFile(filepath.Join(conf, name)); err != nil || string(got) != text {
			t.Errorf("%s is %q (%v), want as before", name, got, err)
		}
	}
	if left, _ := os.ReadDir(bin); len(left) != 0 {
		t.Errorf("%d files are left in the binary directory", len(left))
	}
}

// TestRemoveDirsTakesTendrilsOwnAlone, and twice is once.
func TestRemoveDirsTakesTendrilsOwnAlone(t *testing.T) {
	top := t.TempDir()
	own, shared := filepath.Join(top, "tendril"), filepath.Join(top, "lib")
	for _, dir := range []string{own, shared} {
		if err := os.MkdirAll(filepath.Join(dir, "spool"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for i, want := range []int{1, 0} {
		did, err := install.RemoveDirs(own, shared)
		if err != nil || len(did) != want {
			t.Errorf("call %d did %v (%v), want %d things", i, did, err, want)
		}
	}
	if _, err := os.Stat(own); err == nil {
		t.Error("its own directory is left")
	}
	if _, err := os.Stat(filepath.Join(shared, "spool")); err != nil {
		t.Errorf("a directory that may be shared is gone: %v", err)
	}
}

// firstConf is the file that a runtime takes.
func firstConf(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if ext := filepath.Ext(e.Name()); ext == ".conf" || ext == ".conflist" || ext == ".json" {
			return e.Name()
		}
	}
	return ""
}
