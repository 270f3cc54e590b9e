package cache

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// source is one place to fetch packages from, in the terms of sources.list(5).
type source struct {
	uris       []string
	suites     []string
	components []string
	signedBy   string // empty: apt's own trusted keys
}

// lines writes the source in the one-line format, one line per URI and suite.
func (s source) lines() string {
	var b strings.Builder
	options := ""
	if s.signedBy != "" {
		options = "[signed-by=" + s.signedBy + "] "
	}
	for _, uri := range s.uris {
		for _, suite := range s.suites {
			fmt.Fprintf(&b, "deb %s%s %s %s\n", options, uri, suite, strings.Join(s.components, " "))
		}
	}
	return b.String()
}

// ofRelease keeps the suites that belong to the distribution release called
// codename; a third party's repository on the same machine has other suites.
func (s source) ofRelease(codename string) source {
	var kept []string
	for _, suite := range s.suites {
		if suite == codename || strings.HasPrefix(suite, codename+"-") {
			kept = append(kept, suite)
		}
	}
	s.suites = kept
	return s
}

// hostSources reads the machine's own package sources: whatever mirror it
// already trusts is the one the lab uses.
func hostSources(etcApt string) ([]source, error) {
	files := []string{filepath.Join(etcApt, "sources.list")}
	for _, pattern := range []string{"*.list", "*.sources"} {
		more, err := filepath.Glob(filepath.Join(etcApt, "sources.list.d", pattern))
		if err != nil {
			return nil, err
		}
		files = append(files, more...)
	}
	var all []source
	for _, f := range files {
		data, err := os.ReadFile(f)
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read apt sources: %w", err)
		}
		if strings.HasSuffix(f, ".sources") {
			all = append(all, parseDeb822(data)...)
		} else {
			all = append(all, parseOneLine(data)...)
		}
	}
	return all, nil
}

// parseOneLine reads the "deb [options] uri suite component..." format.
func parseOneLine(data []byte) []source {
	var found []source
	for line := range strings.Lines(string(data)) {
		line, _, _ = strings.Cut(line, "#")
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), "deb ")
		if !ok {
			continue
		}
		var s source
		rest = strings.TrimSpace(rest)
		if options, after, ok := strings.Cut(strings.TrimPrefix(rest, "["), "]"); ok && strings.HasPrefix(rest, "[") {
			s.signedBy = option(options, "signed-by")
			rest = after
		}
		fields := strings.Fields(rest)
		if len(fields) < 3 {
			continue
		}
		s.uris, s.suites, s.components = fields[:1], fields[1:2], fields[2:]
		found = append(found, s)
	}
	return found
}

func option(options, name string) string {
	for _, o := range strings.Fields(options) {
		if k, v, ok := strings.Cut(o, "="); ok && strings.EqualFold(k, name) {
			return v
		}
	}
	return ""
}

// parseDeb822 reads the stanza format. A Signed-By that holds a key itself
// rather than a path is left to apt's own trusted keys.
func parseDeb822(data []byte) []source {
	var found []source
	fields := map[string]string{}
	flush := func() {
		if s, ok := deb822Source(fields); ok {
			found = append(found, s)
		}
		fields = map[string]string{}
	}
	last := ""
	scan := bufio.NewScanner(bytes.NewReader(data))
	for scan.Scan() {
		line := scan.Text()
		switch {
		case strings.HasPrefix(line, "#"):
		case strings.TrimSpace(line) == "":
			flush()
		case line[0] == ' ' || line[0] == '\t':
			fields[last] += " " + strings.TrimSpace(line)
		default:
			k, v, _ := strings.Cut(line, ":")
			last = strings.ToLower(k)
			fields[last] = strings.TrimSpace(v)
		}
	}
	flush()
	return found
}

func deb822Source(fields map[string]string) (source, bool) {
	s := source{
		uris:       strings.Fields(fields["uris"]),
		suites:     strings.Fields(fields["suites"]),
		components: strings.Fields(fields["components"]),
	}
	if key := fields["signed-by"]; strings.HasPrefix(key, "/") {
		s.signedBy = key
	}
	binary := false
	for _, t := range strings.Fields(fields["types"]) {
		binary = binary || t == "deb"
	}
	ok := binary && strings.ToLower(fields["enabled"]) != "no" && len(s.uris) > 0 && len(s.suites) > 0 && len(s.components) > 0
	return s, ok
}
