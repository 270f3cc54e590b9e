package house

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/tendril-cni/tendril"

// topLevel is what a reader finds first; a new entry is a decision, not an
// accident.
var topLevel = []string{
	".ci", ".git", ".gitignore", ".lab", "bin",
	"ARCHITECTURE.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "README.md",
	"cmd", "cni", "deployment", "deviceplugin", "docs", "go.mod", "go.sum",
	"ipam", "tests", "vf", "webhook",
}

// rule says what packages under From must not import. From and Not are import
// paths; a path inside the module is written without it. A Not that ends in /
// means everything below.
type rule struct {
	From   string
	Not    []string
	Except []string
	Reason string
}

var rules = []rule{
	{From: "vf", Not: []string{"cni/", "deviceplugin/", "ipam/", "k8s.io/", "github.com/vishvananda/netlink", "os"},
		Except: []string{"cni/refusal"},
		Reason: "the pure root of VFs: whether a VF is in use reaches it as a function wired by cmd"},
	{From: "vf/sysfs", Not: []string{"cni/", "deviceplugin/", "k8s.io/"}, Except: []string{"cni/refusal"},
		Reason: "reads the kernel; policy and pods are not its business"},
	{From: "vf/link", Not: []string{"cni/", "deviceplugin/", "k8s.io/"}, Except: []string{"cni/refusal"},
		Reason: "writes VF attributes; policy and pods are not its business"},
	{From: "vf/provision", Not: []string{"cni/", "deviceplugin/", "k8s.io/"}, Except: []string{"cni/refusal"},
		Reason: "acts on the kernel; who uses a VF reaches it as a function"},
	{From: "vf/quarantine", Not: []string{"cni/", "deviceplugin/", "k8s.io/"}, Except: []string{"cni/refusal"},
		Reason: "keeps VFs out of use; how one is restored reaches it as a function"},
	{From: "vf/kube", Not: []string{"vf/sysfs", "vf/link", "github.com/vishvananda/netlink"},
		Reason: "policies in, state out; the kernel is not its business"},
	{From: "vf/v1alpha1", Not: []string{"k8s.io/client-go/", "github.com/vishvananda/netlink"},
		Reason: "the API's types are imported by clients"},
	{From: "webhook/inject", Not: []string{"k8s.io/client-go/", "os"}, Reason: "review in, patch out: pure"},
	{From: "webhook/validate", Not: []string{"k8s.io/client-go/", "os"}, Reason: "lint runs offline with the same code"},
	{From: "ipam", Not: []string{"cni/", "k8s.io/", "go.etcd.io/", "os", "github.com/vishvananda/netlink"}, Except: []string{"cni/refusal"},
		Reason: "the pure root of addresses: storage and Kubernetes are adapters"},
	{From: "ipam/hostlocal", Not: []string{"cni/", "k8s.io/", "go.etcd.io/", "github.com/vishvananda/netlink"}, Except: []string{"cni/refusal"},
		Reason: "files and a lock; the daemon and the executables share them"},
	{From: "cni/netconf", Not: []string{"cni/", "k8s.io/", "os", "github.com/vishvananda/netlink"}, Except: []string{"cni/refusal"},
		Reason: "strict parsing is pure, so that the webhook and lint can use it anywhere"},
	{From: "cni", Not: []string{"cni/", "vf/", "deviceplugin/", "k8s.io/", "github.com/vishvananda/netlink"},
		Except: []string{"cni/netconf", "cni/refusal", "cni/journal"},
		Reason: "the engine decides and records; the kernel and the API server are behind its small interfaces"},
	{From: "cni/journal", Not: []string{"cni/", "ipam", "vf/", "k8s.io/"},
		Reason: "stores bytes; what a step means is the engine's"},
	{From: "cni/rpc", Not: []string{"cni/", "ipam", "vf/", "k8s.io/", "github.com/"}, Except: []string{},
		Reason: "linked into the shim, which is the standard library alone"},
	{From: "cmd/tendril", Not: []string{"cni/", "ipam", "vf/", "k8s.io/", "github.com/", "golang.org/x/", "net/http"}, Except: []string{"cni/rpc", "cni/spool"},
		Reason: "started for every CNI call: small and fast"},
	{From: "cni/spool", Not: []string{"cni/", "ipam", "vf/", "k8s.io/", "github.com/", "golang.org/x/"}, Except: []string{"cni/rpc"},
		Reason: "linked into the shim, which is the standard library alone"},
	{From: "cni/macvlan", Not: []string{"cni/ipvlan", "cni/sriov", "ipam", "k8s.io/"}, Reason: "one kind each: drivers do not know each other, addresses are given to them"},
	{From: "cni/ipvlan", Not: []string{"cni/macvlan", "cni/sriov", "ipam", "k8s.io/"}, Reason: "one kind each: drivers do not know each other, addresses are given to them"},
	{From: "cni/sriov", Not: []string{"cni/macvlan", "cni/ipvlan", "ipam", "k8s.io/"}, Reason: "one kind each: drivers do not know each other, addresses are given to them"},
	{From: "cni/netns", Not: []string{"cni/macvlan", "cni/ipvlan", "cni/sriov", "ipam", "k8s.io/"}, Reason: "moves and makes links for whoever asks"},
	{From: "cni/delegate", Not: []string{"cni/macvlan", "cni/ipvlan", "cni/sriov", "ipam", "k8s.io/"}, Reason: "runs other people's plugins, not ours"},
	{From: "cni/loan", Not: []string{"cni/", "ipam", "vf/", "k8s.io/", "github.com/vishvananda/netlink"}, Except: []string{"cni"},
		Reason: "lends runners to whoever has work; what the work is, it does not know"},
	{From: "cni/takeover", Not: []string{"cni/", "ipam", "vf/", "k8s.io/", "github.com/vishvananda/netlink"}, Except: []string{"cni", "cni/netconf", "cni/refusal"},
		Reason: "turns other people's files into records; the kernel is asked through its Host"},
	{From: "cni/multussock", Not: []string{"cni/", "ipam", "vf/", "k8s.io/", "github.com/vishvananda/netlink"}, Except: []string{"cni", "cni/netconf", "cni/refusal"},
		Reason: "translates a protocol; networks and pods are the engine's"},
	{From: "cni/inspect", Not: []string{"cni/", "ipam", "vf/", "deviceplugin/", "k8s.io/", "github.com/vishvananda/netlink"}, Except: []string{"cni/refusal", "vf"},
		Reason: "shapes and a socket, for the daemon and for the program on a person's machine; how answers are found is wired"},
	{From: "cni/flight", Not: []string{"cni/macvlan", "cni/ipvlan", "cni/sriov", "cni/kube", "ipam", "vf/", "k8s.io/"}, Reason: "notes what others did; who asks for it, and how, is not its business"},
	{From: "cni/kube", Not: []string{"cni/macvlan", "cni/ipvlan", "cni/sriov", "cni/netns", "github.com/vishvananda/netlink"}, Reason: "talks to the API server; the kernel is not its business"},
	{From: "deviceplugin", Not: []string{"cni/", "ipam", "k8s.io/client-go"}, Except: []string{"cni/refusal"},
		Reason: "serves the kubelet from the inventory; it needs neither pods nor the API server"},
	{From: "webhook", Not: []string{"github.com/vishvananda/netlink", "vf/sysfs", "vf/link", "cni/netns"}, Reason: "runs where there is no NIC"},
}

func TestTopLevel(t *testing.T) {
	entries, err := os.ReadDir(root(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !slices.Contains(topLevel, e.Name()) {
			t.Errorf("%s stands at the top level: the top level is fixed, put it below one of %v", e.Name(), topLevel)
		}
	}
}

func TestImportsPointOneWay(t *testing.T) {
	for dir, files := range packages(t) {
		for _, r := range rules {
			if dir != r.From {
				continue
			}
			for name, f := range files {
				if strings.HasSuffix(name, "_test.go") {
					continue
				}
				for _, path := range imports(f) {
					if r.forbids(path) {
						t.Errorf("%s/%s imports %s: %s", dir, name, path, r.Reason)
					}
				}
			}
		}
	}
}

func TestEveryRuleHasAPackage(t *testing.T) {
	all := packages(t)
	for _, r := range rules {
		if len(all[r.From]) == 0 {
			t.Errorf("rule for %s guards nothing: the package is gone", r.From)
		}
		if r.Reason == "" {
			t.Errorf("rule for %s has no reason", r.From)
		}
	}
}

func TestOnlyCommandsWire(t *testing.T) {
	for dir, files := range packages(t) {
		for name, f := range files {
			for _, path := range imports(f) {
				inner, ours := strings.CutPrefix(path, module+"/")
				if ours && strings.HasPrefix(inner, "cmd/") && !strings.HasPrefix(dir, "cmd/") && !strings.HasPrefix(dir, "tests/") {
					t.Errorf("%s/%s imports %s: only commands and tests may depend on commands", dir, name, path)
				}
				if ours && strings.HasPrefix(inner, "tests/") && !strings.HasPrefix(dir, "tests/") && !strings.HasSuffix(name, "_test.go") {
					t.Errorf("%s/%s imports %s: tests may know the product, not the other way round", dir, name, path)
				}
			}
		}
	}
}

func TestEveryPackageSaysWhatItOwns(t *testing.T) {
	for dir, files := range packages(t) {
		documented := false
		for _, f := range files {
			documented = documented || f.Doc != nil && len(f.Doc.Text()) > 20
		}
		if !documented {
			t.Errorf("%s has no package comment (doc.go): what it owns, its invariants, who may call it at once", dir)
		}
	}
}

func TestNoHouseholdNames(t *testing.T) {
	for dir := range packages(t) {
		switch base := filepath.Base(dir); base {
		case "util", "utils", "common", "types", "helpers", "manager", "misc":
			t.Errorf("%s: a package is named for what it owns, %q owns nothing", dir, base)
		}
	}
}

// TestInvariantsNameTestsThatExist reads the table in ARCHITECTURE.md.
func TestInvariantsNameTestsThatExist(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root(t), "ARCHITECTURE.md"))
	if err != nil {
		t.Fatal(err)
	}
	exist := testNames(t)
	for n := 1; n <= 10; n++ {
		row := regexp.MustCompile(fmt.Sprintf(`(?m)^\| %d \|.*$`, n)).FindString(string(text))
		if row == "" {
			t.Errorf("ARCHITECTURE.md has no row for invariant %d", n)
		}
		for _, name := range regexp.MustCompile("`((?:Test)?(?:Invariant|[A-Z])\\w+)`").FindAllStringSubmatch(row, -1) {
			if !exist[name[1]] {
				t.Errorf("invariant %d is held by %s, which does not exist", n, name[1])
			}
		}
	}
}

// testNames returns the names of all test functions, of the scenes that the cluster
// tests run as sub-tests, and of what package suite asks in every suite.
func testNames(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	pattern := regexp.MustCompile(`func (Test\w+)\(|\{(?:Name: )?"(Invariant\w+)",|func \(s \*Suite\) (Invariant\w+)\(`)
	for dir, files := range packages(t) {
		for file := range files {
			if !strings.HasSuffix(file, "_test.go") && dir != "tests/stage/suite" {
				continue
			}
			text, err := os.ReadFile(filepath.Join(root(t), dir, file))
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range pattern.FindAllStringSubmatch(string(text), -1) {
				names[m[1]+m[2]+m[3]] = true
			}
		}
	}
	return names
}

func (r rule) forbids(path string) bool {
	path, ours := strings.CutPrefix(path, module+"/")
	match := func(pattern string) bool {
		return path == strings.TrimSuffix(pattern, "/") || strings.HasSuffix(pattern, "/") && strings.HasPrefix(path, pattern)
	}
	if ours && slices.ContainsFunc(r.Except, match) {
		return false
	}
	return slices.ContainsFunc(r.Not, match)
}

func imports(f *ast.File) []string {
	var out []string
	for _, i := range f.Imports {
		out = append(out, strings.Trim(i.Path.Value, `"`))
	}
	return out
}

// packages parses every Go file of the module: folder -> file name -> syntax.
func packages(t *testing.T) map[string]map[string]*ast.File {
	t.Helper()
	top := root(t)
	out := map[string]map[string]*ast.File{}
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if n := d.Name(); n == ".git" || n == ".lab" || n == "bin" || n == "testdata" {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		dir, err := filepath.Rel(top, filepath.Dir(path))
		if err != nil {
			return err
		}
		dir = filepath.ToSlash(dir)
		if out[dir] == nil {
			out[dir] = map[string]*ast.File{}
		}
		out[dir][filepath.Base(path)] = f
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "go.mod")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// client-go's set of typed clients has every API type of Kubernetes: 20 MB of the
// daemon's executable, a third of which stays in memory on each node.
// Templates call methods by their names: with them the linker keeps every method of
// every type that is in use, a fifth of what there is then.
func TestDaemonHasNoClientSet(t *testing.T) {
	makefile, err := os.ReadFile(filepath.Join(root(t), "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	tags := regexp.MustCompile(`(?m)^TAGS +:= (\S+)$`).FindSubmatch(makefile)
	if tags == nil {
		t.Fatal("the Makefile has no TAGS")
	}
	dockerfile, err := os.ReadFile(filepath.Join(root(t), "deployment", "Dockerfile"))
	if err != nil || !strings.Contains(string(dockerfile), " -tags "+string(tags[1])+" ") {
		t.Errorf("deployment/Dockerfile does not build with the Makefile's -tags %s: %v", tags[1], err)
	}
	cmd := exec.Command("go", "list", "-tags", string(tags[1]), "-deps", "./cmd/tendrild")
	cmd.Dir = root(t)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	deps := strings.Fields(string(out))
	for _, path := range []string{"k8s.io/client-go/kubernetes", "k8s.io/client-go/kubernetes/scheme", "k8s.io/api/apps/v1", "text/template", "html/template"} {
		if slices.Contains(deps, path) {
			t.Errorf("cmd/tendrild links %s", path)
		}
	}
	if !slices.Contains(deps, "k8s.io/api/core/v1") {
		t.Error("the list of what cmd/tendrild links is not one")
	}
}
