package hostlocal_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/tendril-cni/tendril/ipam/hostlocal"
)

// TestFilesElsewhereAreNotTakenForTheHosts: a container that has no mount, or a
// link that leads out of it, sees other files than the plugins on the host.
func TestFilesElsewhereAreNotTakenForTheHosts(t *testing.T) {
	base := t.TempDir()
	host, other := filepath.Join(base, "host"), filepath.Join(base, "other")
	for _, dir := range []string{"host/networks", "host/real", "other/networks", "hostile"} {
		if err := os.MkdirAll(filepath.Join(base, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{
		"host/out": other, "host/dangling": filepath.Join(base, "nowhere"), "host/in": "real", "host/networks/out": other, "alias": host,
	} {
		if err := os.Symlink(to, filepath.Join(base, link)); err != nil {
			t.Fatal(err)
		}
	}
	dirs := hostlocal.Dirs{filepath.Join(base, "not there"), host}
	for path, want := range map[string]bool{
		"host": true, "host/networks": true, "host/made/later": true, "host/in": true, "alias/networks": true, "host/networks/../in": true,
		"other/networks": false, "hostile": false, "host/out": false, "host/out/more": false, "host/dangling": false, "host/dangling/more": false,
		"host/../other": false, "not there": false, "not there/networks": false,
	} {
		_, err := dirs.Open(filepath.Join(base, path), "blue")
		if (err == nil) != want || err != nil && !errors.Is(err, hostlocal.ErrElsewhere) {
			t.Errorf("%s: error %v, want it seen: %v", path, err, want)
		}
	}
	if _, err := dirs.Open(filepath.Join(host, "networks"), "out"); !errors.Is(err, hostlocal.ErrElsewhere) {
		t.Errorf("a network's own directory that leads outside: %v", err)
	}
	if _, err := (hostlocal.Dirs{}).Open(filepath.Join(host, "networks"), "blue"); !errors.Is(err, hostlocal.ErrElsewhere) {
		t.Errorf("no directories: %v", err)
	}
}
