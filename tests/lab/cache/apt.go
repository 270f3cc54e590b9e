package cache

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// index is a private apt root: its own sources, lists and (empty) set of
// installed packages, so that what the host has installed or may install does
// not matter and no root is needed.
type index struct {
	dir  string
	plan plan
}

// indexFormat changes when what lies in an index directory does.
const indexFormat = "1"

// openIndex finds the first plan of this machine whose package lists can be
// fetched and are signed by a key that the machine trusts.
func openIndex(ctx context.Context) (*index, error) {
	if err := Require("apt-get", "dpkg-deb"); err != nil {
		return nil, err
	}
	release, err := readOSRelease("/etc/os-release")
	if err != nil {
		return nil, err
	}
	host, err := hostSources("/etc/apt")
	if err != nil {
		return nil, err
	}
	choices, err := plans(release, host)
	if err != nil {
		return nil, err
	}
	// A choice made once stands: asking again would need the network, and a
	// change of release in the middle would build everything twice.
	for _, p := range choices {
		if dir, ok := cached(p.artefact()); ok {
			return &index{dir: dir, plan: p}, nil
		}
	}
	var errs []error
	for _, p := range choices {
		name, key := p.artefact()
		dir, err := Artefact(ctx, name, key, func(ctx context.Context, dir string) error {
			return update(ctx, dir, p)
		})
		if err == nil {
			return &index{dir: dir, plan: p}, nil
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
		say("packages of %s cannot be had here", p.name)
	}
	return nil, fmt.Errorf("fetch package lists: %w", errors.Join(errs...))
}

// artefact is the name and key of the plan's index.
func (p plan) artefact() (name, key string) {
	return "apt-" + p.name, Key(indexFormat, p.list(), p.prefer)
}

// update writes the private sources into dir and fetches their package lists.
func update(ctx context.Context, dir string, p plan) error {
	for _, sub := range []string{"lists/partial", "archives/partial"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return err
		}
	}
	files := map[string]string{"sources.list": p.list(), "status": "", "preferences": p.preferences()}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			return err
		}
	}
	_, err := (&index{dir: dir, plan: p}).apt(ctx, "", "apt-get", "update", "--error-on=any")
	return err
}

func (p plan) preferences() string {
	if p.prefer == "" {
		return ""
	}
	return "Package: *\nPin: release n=" + p.prefer + "\nPin-Priority: 990\n"
}

// settings is the apt configuration of the private root. It is given with -c,
// which apt reads after the machine's own configuration: that has its proxies
// and trusted keys, which are wanted, and its hooks, which are cleared.
func (x *index) settings() string {
	user := strconv.Itoa(os.Getuid())
	if os.Getuid() == 0 {
		user = "root"
	}
	return fmt.Sprintf(`#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Install-Pkgs;
#clear DPkg::Post-Invoke;
#clear APT::Default-Release;
APT::Architecture "amd64";
APT::Architectures { "amd64"; };
APT::Sandbox::User "%[2]s";
APT::Install-Recommends "false";
Acquire::Languages "none";
Acquire::Retries "3";
Debug::NoLocking "true";
Dir::State "%[1]s";
Dir::State::status "%[1]s/status";
Dir::State::lists "%[1]s/lists";
Dir::Cache "%[1]s";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
Dir::Etc::sourcelist "%[1]s/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "%[1]s/preferences";
Dir::Etc::preferencesparts "/dev/null";
`, x.dir, user)
}

// apt runs an apt program on the private root, in directory workdir.
func (x *index) apt(ctx context.Context, workdir, program string, args ...string) (string, error) {
	conf, err := os.CreateTemp("", "lab-apt-*.conf")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.Remove(conf.Name()) }()
	_, err = conf.WriteString(x.settings())
	if err := errors.Join(err, conf.Close()); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, program, append([]string{"-q", "-c", conf.Name()}, args...)...)
	cmd.Dir = workdir
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", program, args[0], err, stderr.String())
	}
	return string(out), nil
}

// A deb is one package that apt has chosen for download.
type deb struct {
	uri, file string
	size      int64
}

// name is the package's name without version and architecture.
func (d deb) name() string {
	name, _, _ := strings.Cut(d.file, "_")
	return name
}

// version is the package's version; apt escapes its colon in file names.
func (d deb) version() string {
	parts := strings.Split(d.file, "_")
	if len(parts) < 2 {
		return ""
	}
	return strings.ReplaceAll(parts[1], "%3a", ":")
}

// closure resolves packages and all that they depend on.
func (x *index) closure(ctx context.Context, names []string) ([]deb, error) {
	args := append([]string{"install", "--print-uris", "-y", "--reinstall"}, names...)
	out, err := x.apt(ctx, "", "apt-get", args...)
	if err != nil {
		return nil, err
	}
	return parseURIs(out), nil
}

// parseURIs reads the lines 'URI' FILE SIZE [HASH] of apt-get --print-uris.
func parseURIs(out string) []deb {
	var debs []deb
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) < 3 || !strings.HasPrefix(f[0], "'") || !strings.HasSuffix(f[1], ".deb") {
			continue
		}
		size, err := strconv.ParseInt(f[2], 10, 64)
		if err != nil {
			continue
		}
		debs = append(debs, deb{uri: strings.Trim(f[0], "'"), file: f[1], size: size})
	}
	return debs
}
