package cache

import (
	"fmt"
	"os"
	"strings"
)

// A plan is one way of getting a QEMU that emulates SR-IOV and a kernel that
// drives it: a set of sources and the release to prefer among them.
type plan struct {
	name    string
	sources []source
	// prefer is the release whose packages win over newer or equal ones; empty
	// leaves the choice to apt.
	prefer string
}

func (p plan) list() string {
	var b strings.Builder
	for _, s := range p.sources {
		b.WriteString(s.lines())
	}
	return b.String()
}

// plans lists the ways to try on this machine, best first.
func plans(osRelease map[string]string, host []source) ([]plan, error) {
	codename := osRelease["VERSION_CODENAME"]
	var own []source
	for _, s := range host {
		if s = s.ofRelease(codename); len(s.suites) > 0 {
			own = append(own, s)
		}
	}
	if len(own) == 0 {
		return nil, fmt.Errorf("choose package sources: the machine's apt sources have no suite %q", codename)
	}
	switch id := osRelease["ID"]; {
	case id == "debian" && codename == "bookworm":
		// trixie's QEMU maps the registers of VFs right wherever they lie;
		// the one in backports only below 4 GiB.
		return []plan{
			{name: "trixie", sources: swapSuites(own, "bookworm", "trixie")},
			{name: "bookworm-backports", sources: withBackports(own, "bookworm"), prefer: "bookworm-backports"},
		}, nil
	case id == "debian", id == "ubuntu":
		return []plan{{name: codename, sources: own}}, nil
	default:
		return nil, fmt.Errorf("choose package sources: distribution %q is not one the lab knows (Debian 12, Debian 13, Ubuntu 24.04)", id)
	}
}

// swapSuites rewrites old, old-updates, old-security and so on to another
// release. Suites of staging areas are dropped: they need not exist there.
func swapSuites(sources []source, old, replacement string) []source {
	var out []source
	for _, s := range sources {
		var suites []string
		for _, suite := range s.suites {
			suffix := strings.TrimPrefix(suite, old)
			if suffix == "" || suffix == "-updates" || suffix == "-security" {
				suites = append(suites, replacement+suffix)
			}
		}
		if s.suites = suites; len(suites) > 0 {
			out = append(out, s)
		}
	}
	return out
}

// withBackports adds the backports suite to every source of the main suite.
func withBackports(sources []source, codename string) []source {
	out := make([]source, 0, len(sources))
	for _, s := range sources {
		has := false
		for _, suite := range s.suites {
			has = has || suite == codename
		}
		if has {
			s.suites = append(append([]string(nil), s.suites...), codename+"-backports")
		}
		out = append(out, s)
	}
	return out
}

// readOSRelease parses os-release(5).
func readOSRelease(path string) (map[string]string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("identify distribution: %w", err)
	}
	out := map[string]string{}
	for line := range strings.Lines(string(data)) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			out[k] = strings.Trim(v, `"'`)
		}
	}
	return out, nil
}
