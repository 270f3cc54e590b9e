package cache

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const deb822 = `# a comment
Types: deb deb-src
URIs: http://mirror.test/debian
Suites: bookworm
 bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/a.gpg

Types: deb
URIs: http://mirror.test/security
Suites: bookworm-security
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 -----END PGP PUBLIC KEY BLOCK-----

Types: deb-src
URIs: http://mirror.test/only-source
Suites: bookworm
Components: main

Enabled: no
Types: deb
URIs: http://mirror.test/off
Suites: bookworm
Components: main
`

const oneLine = `
deb [arch=amd64 signed-by=/usr/share/keyrings/b.gpg] http://mirror.test/debian bookworm main # end
#deb http://mirror.test/off bookworm main
deb-src http://mirror.test/debian bookworm main
deb https://third.test/apt stable main
`

// hostWith returns the sources of a machine with both files, as plans see them.
func hostWith(t *testing.T) []source {
	t.Helper()
	etc := t.TempDir()
	for name, text := range map[string]string{"sources.list": oneLine, "sources.list.d/debian.sources": deb822} {
		path := filepath.Join(etc, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	sources, err := hostSources(etc)
	if err != nil {
		t.Fatal(err)
	}
	return sources
}

func TestPlansOfBookworm(t *testing.T) {
	got, err := plans(map[string]string{"ID": "debian", "VERSION_CODENAME": "bookworm"}, hostWith(t))
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, p := range got {
		text.WriteString(p.name + " prefer=" + p.prefer + "\n" + p.list())
	}
	want := `trixie prefer=
deb [signed-by=/usr/share/keyrings/b.gpg] http://mirror.test/debian trixie main
deb [signed-by=/usr/share/keyrings/a.gpg] http://mirror.test/debian trixie main contrib
deb [signed-by=/usr/share/keyrings/a.gpg] http://mirror.test/debian trixie-updates main contrib
deb http://mirror.test/security trixie-security main
bookworm-backports prefer=bookworm-backports
deb [signed-by=/usr/share/keyrings/b.gpg] http://mirror.test/debian bookworm main
deb [signed-by=/usr/share/keyrings/b.gpg] http://mirror.test/debian bookworm-backports main
deb [signed-by=/usr/share/keyrings/a.gpg] http://mirror.test/debian bookworm main contrib
deb [signed-by=/usr/share/keyrings/a.gpg] http://mirror.test/debian bookworm-updates main contrib
deb [signed-by=/usr/share/keyrings/a.gpg] http://mirror.test/debian bookworm-backports main contrib
deb http://mirror.test/security bookworm-security main
`
	if diff := cmp.Diff(want, text.String()); diff != "" {
		t.Errorf("plans (-want +got):\n%s", diff)
	}
}

func TestPlansRefuseWhatTheyDoNotKnow(t *testing.T) {
	for _, c := range []struct{ id, codename, want string }{
		{"debian", "nosuch", `no suite "nosuch"`},
		{"other", "bookworm", `distribution "other"`},
	} {
		_, err := plans(map[string]string{"ID": c.id, "VERSION_CODENAME": c.codename}, hostWith(t))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %s: error %v, want %s", c.id, c.codename, err, c.want)
		}
	}
}

func TestParseURIs(t *testing.T) {
	out := `Reading package lists...
'http://mirror.test/pool/q/qemu_10.0_amd64.deb' qemu_1%3a10.0+ds-1_amd64.deb 1234 MD5Sum:abc
'http://mirror.test/pool/x_1.tar.xz' x_1.tar.xz 9 SHA256:abc
`
	got := parseURIs(out)
	if len(got) != 1 || got[0].name() != "qemu" || got[0].version() != "1:10.0+ds-1" || got[0].size != 1234 {
		t.Errorf("parsed %+v", got)
	}
}

func TestMergedName(t *testing.T) {
	for name, want := range map[string]string{
		"./":            "",
		"./bin/":        "",
		"./bin/bash":    "usr/bin/bash",
		"lib/x/y.so":    "usr/lib/x/y.so",
		"./usr/bin/env": "usr/bin/env",
		"./etc/../lib":  "",
		"./var/lib/x":   "var/lib/x",
		"../../etc/x":   "etc/x",
	} {
		got, ok := mergedName(name)
		if !ok {
			got = ""
		}
		if got != want {
			t.Errorf("%s is at %q, want %q", name, got, want)
		}
	}
}
