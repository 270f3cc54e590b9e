package validate_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// declared reads the codes from finding.go: name, code, and what its comment says.
func declared(t *testing.T) (codes, about map[string]string) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), "finding.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	codes, about = map[string]string{}, map[string]string{}
	ast.Inspect(f, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if !ok || len(v.Values) != 1 {
			return true
		}
		lit, ok := v.Values[0].(*ast.BasicLit)
		if !ok || !regexp.MustCompile(`^"[NPRM]\d{3}"$`).MatchString(lit.Value) {
			return true
		}
		code, _ := strconv.Unquote(lit.Value)
		codes[v.Names[0].Name], about[code] = code, strings.TrimSpace(v.Comment.Text())
		return true
	})
	return codes, about
}

var row = regexp.MustCompile(`(?m)^\| ([NPRM]\d{3}) \| ([^|]*) \| ([^|]*) \| ([^|]*?) ?\|$`)

// TestCodesAreDocumented: docs/admission.md has each code, once, with the words of
// the code's own comment, and with every effect that the code gives it in so many
// words; what it calls static is in a policy or a CRD.
func TestCodesAreDocumented(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join("..", "..", "docs", "admission.md"))
	if err != nil {
		t.Fatal(err)
	}
	codes, about := declared(t)
	described, effect, static := map[string]string{}, map[string]string{}, map[string]bool{}
	for _, m := range row.FindAllStringSubmatch(string(doc), -1) {
		if described[m[1]] != "" {
			t.Errorf("%s stands twice", m[1])
		}
		described[m[1]], effect[m[1]], static[m[1]] = m[3], m[2], m[4] == "yes"
	}
	if diff := cmp.Diff(about, described); diff != "" {
		t.Errorf("finding.go and docs/admission.md differ (-code +document):\n%s", diff)
	}
	for name, levels := range given(t) {
		code := codes[name]
		for level := range levels {
			if code != "" && !strings.Contains(effect[code], level) {
				t.Errorf("%s is said to %s, and the code says %s", code, effect[code], level)
			}
		}
	}
	policies := manifest(t)
	for code, is := range static {
		if code == "R001" {
			continue // in the CRD, by field
		}
		if strings.Contains(policies, "'"+code+":") != is {
			t.Errorf("%s: static is %v in the document", code, is)
		}
	}
}

// given reads the levels that sources give to codes literally.
func given(t *testing.T) map[string]map[string]bool {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]map[string]bool{}
	pattern := regexp.MustCompile(`\.add\((\w+), (Deny|Warn),|\.refuse\((\w+),|Refused\((\w+),`)
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range pattern.FindAllStringSubmatch(string(text), -1) {
			code, level := m[1]+m[3]+m[4], strings.ToLower(m[2])
			if level == "" {
				level = "deny"
			}
			if out[code] == nil {
				out[code] = map[string]bool{}
			}
			out[code][level] = true
		}
	}
	if len(out) < 10 {
		t.Fatalf("only %d codes found in the sources", len(out))
	}
	return out
}

// manifest is the manifest with the static policies.
func manifest(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "deployment", "manifests", "controller.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
