package observability_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/tendril-cni/tendril/tests/observability"
)

// levels are slog's methods, with the number of arguments before the pairs.
var levels = map[string]int{
	"Debug": 1, "Info": 1, "Warn": 1, "Error": 1, "With": 0,
	"DebugContext": 2, "InfoContext": 2, "WarnContext": 2, "ErrorContext": 2, "Log": 3,
}

// TestLogKeysAreDocumented: the keys of log lines are a closed set, so that
// whoever collects logs can rely on them. A key is found where a line is written
// with it as a literal.
func TestLogKeysAreDocumented(t *testing.T) {
	known, used := map[string]bool{}, map[string]bool{}
	for _, row := range observability.Table(t, observability.LogKeys) {
		for _, name := range row.Names {
			known[name] = true
		}
	}
	sources(t, func(path string, f *ast.File, pos func(ast.Node) string) {
		ast.Inspect(f, func(n ast.Node) bool {
			for _, key := range keys(n) {
				used[key] = true
				if !known[key] {
					t.Errorf("%s: log key %q is not in docs/observability.md", pos(n), key)
				}
			}
			return true
		})
	})
	for key := range known {
		if !used[key] && !builtIn[key] {
			t.Errorf("log key %q is documented and nobody writes it", key)
		}
	}
}

// builtIn are slog's own, and those that are not written as pairs of a line.
var builtIn = map[string]bool{"time": true, "level": true, "msg": true, "call": true}

// keys returns the literal keys of a call of a logger, and of a list of pairs that
// is made for one: by a function keys, or by an append to what it returns.
func keys(n ast.Node) []string {
	switch n := n.(type) {
	case *ast.FuncDecl:
		if n.Name.Name == "keys" {
			return listed(n)
		}
	case *ast.CallExpr:
		switch fun := n.Fun.(type) {
		case *ast.Ident:
			if fun.Name == "append" && len(n.Args) > 1 && callsKeys(n.Args[0]) {
				return literals(n.Args[1:])
			}
		case *ast.SelectorExpr:
			skip, ok := levels[fun.Sel.Name]
			if ok && logger(fun.X) && n.Ellipsis == token.NoPos && len(n.Args) >= skip {
				return literals(n.Args[skip:])
			}
		}
	}
	return nil
}

// listed returns the keys of the lists of pairs in a function.
func listed(f *ast.FuncDecl) (out []string) {
	ast.Inspect(f, func(n ast.Node) bool {
		if list, ok := n.(*ast.CompositeLit); ok {
			out = append(out, literals(list.Elts)...)
		}
		return true
	})
	return out
}

func callsKeys(x ast.Expr) bool {
	call, ok := x.(*ast.CallExpr)
	if !ok {
		return false
	}
	fun, ok := call.Fun.(*ast.SelectorExpr)
	return ok && fun.Sel.Name == "keys"
}

// literals returns the strings at the places of keys.
func literals(pairs []ast.Expr) (out []string) {
	for i, arg := range pairs {
		if lit, ok := arg.(*ast.BasicLit); ok && i%2 == 0 && lit.Kind == token.STRING {
			key, _ := strconv.Unquote(lit.Value)
			out = append(out, key)
		}
	}
	return out
}

// logger says whether x is one by its name: log, x.log, x.Log, x.opts.Log.
func logger(x ast.Expr) bool {
	switch x := x.(type) {
	case *ast.Ident:
		return strings.EqualFold(x.Name, "log") || x.Name == "logger"
	case *ast.SelectorExpr:
		return strings.EqualFold(x.Sel.Name, "log") || x.Sel.Name == "logger"
	}
	return false
}

// sources parses the product's own files.
func sources(t *testing.T, visit func(path string, f *ast.File, pos func(ast.Node) string)) {
	t.Helper()
	for _, dir := range []string{"cmd", "cni", "deviceplugin", "ipam", "vf", "webhook"} {
		err := filepath.WalkDir(filepath.Join("..", "..", dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || slices.Contains(strings.Split(path, "/"), "testdata") {
				return err
			}
			set := token.NewFileSet()
			f, err := parser.ParseFile(set, path, nil, 0)
			if err == nil {
				visit(path, f, func(n ast.Node) string { return set.Position(n.Pos()).String() })
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestEventReasonsAreDocumented: reasons are constants whose names begin with
// reason, and each is in the document with what it is about.
func TestEventReasonsAreDocumented(t *testing.T) {
	known := map[string]bool{}
	for _, row := range observability.Table(t, observability.Events) {
		for _, name := range row.Names {
			known[name] = true
		}
	}
	sources(t, func(path string, f *ast.File, pos func(ast.Node) string) {
		ast.Inspect(f, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok || !strings.HasPrefix(spec.Names[0].Name, "reason") || len(spec.Values) != 1 {
				return true
			}
			lit, ok := spec.Values[0].(*ast.BasicLit)
			if !ok {
				return true
			}
			reason, _ := strconv.Unquote(lit.Value)
			if !known[reason] {
				t.Errorf("%s: event reason %s is not in docs/observability.md", pos(n), reason)
			}
			delete(known, reason)
			return true
		})
	})
	for reason := range known {
		t.Errorf("event reason %s is documented and nobody emits it", reason)
	}
}
