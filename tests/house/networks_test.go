package house

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/tendril-cni/tendril/cni/dhcp"
	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/ipam"
)

// kinds are the plugins that docs/networks.md has a section for, each with the
// function of cni/netconf that reads its configuration.
var kinds = map[string]string{
	"sriov": "ParseSriov", "macvlan": "ParseMacvlan", "ipvlan": "ParseIpvlan", "vlan": "ParseVlan", "bridge": "ParseBridge",
	"host-device": "ParseHostDevice", "bond": "ParseBond", "tuning": "ParseTuning", "sbr": "ParseSBR", "vrf": "ParseVRF",
}

// everywhere are what a plugin reads as any other does.
var everywhere = []string{"args", "cni", "ipam", "runtimeConfig", "type"}

// An operator cannot find out about a field that no page names.
func TestEveryFieldOfANetworkIsDocumented(t *testing.T) {
	doc := sections(t)
	fields := fieldsRead(t)
	for kind, read := range kinds {
		own := slices.DeleteFunc(fields(read), func(f string) bool { return slices.Contains(everywhere, f) })
		check(t, doc, own, []string{kind})
		tabled(t, doc, kind, own)
	}
	for read, section := range map[string]string{"ParseNetwork": "Every network", "ParseDNS": "Every network", "parseElement": "What a pod may ask for"} {
		check(t, doc, fields(read), []string{section})
	}
	const shared = "Routes and dns"
	for section, files := range map[string][]string{
		"static": {"config.go"}, "host-local": {"config.go", "ranges.go"}, "whereabouts": {"whereabouts.go"}, "tendril": {"own.go"},
	} {
		tags := []string{"nameservers", "domain", "search", "options"}
		for _, file := range files {
			tags = append(tags, tagsIn(parse(t, "ipam/"+file))...)
		}
		in := []string{section, shared}
		if files[0] == "config.go" { // one structure for both types
			in = []string{"static", "host-local", shared}
		}
		check(t, doc, tags, in)
		tabled(t, doc, section, append(tags, tagsIn(parse(t, "ipam/config.go"))...))
	}
	lease := append(tagsIn(function(t, parse(t, "cni/dhcp/request.go"), "Parse")), "type")
	check(t, doc, lease, []string{"dhcp"})
	tabled(t, doc, "dhcp", lease)
}

// inner are the keys that a parser reads inside of its fields.
var inner = map[string][]string{"sriov": {"bandwidth"}, "bridge": {"id", "mac", "maxID", "minID"}, "bond": {"name"}}

// A field that is read and not known would be called a mistake in a definition
// that is right.
func TestFieldsOfAPluginAreKnown(t *testing.T) {
	fields := fieldsRead(t)
	for kind, read := range kinds {
		want := slices.DeleteFunc(fields(read), func(f string) bool { return slices.Contains(everywhere, f) || slices.Contains(inner[kind], f) })
		got := netconf.Fields(kind)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s: cni/netconf knows the fields\n%v, and the parser reads\n%v", kind, got, want)
		}
	}
}

// An example that is refused is worse than none.
func TestExamplesOfNetworksAreTaken(t *testing.T) {
	blocks := regexp.MustCompile(`(?m)(?:^    .*\n)+`)
	types := []string{"static", "host-local", "dhcp", "whereabouts", "tendril"}
	for section, text := range sections(t) {
		found := false
		for _, block := range blocks.FindAllString(text, -1) {
			block = regexp.MustCompile(`(?m)^    `).ReplaceAllString(block, "")
			switch {
			case slices.Contains(types, section):
				found = true
				addresses(t, section, json.RawMessage(block), section)
			case kinds[section] != "":
				found = true
				network(t, section, block)
			}
		}
		if !found && (kinds[section] != "" || slices.Contains(types, section)) {
			t.Errorf("docs/networks.md: %s has no example", section)
		}
	}
}

func network(t *testing.T, section, block string) {
	t.Helper()
	var nad struct {
		Metadata struct{ Name string }
		Spec     struct{ Config string }
	}
	if err := yaml.Unmarshal([]byte(block), &nad); err != nil {
		t.Errorf("%s: %v", section, err)
		return
	}
	n, err := netconf.ParseNetwork(section, []byte(nad.Spec.Config), nad.Metadata.Name)
	if err != nil {
		t.Error(err)
		return
	}
	if !n.Native() {
		t.Errorf("%s: the example is not served in process", section)
	}
	if !slices.ContainsFunc(n.Plugins, func(p netconf.Plugin) bool { return p.Type == section }) {
		t.Errorf("%s: the example has no plugin of that type", section)
	}
	readers := map[string]func(netconf.Plugin) error{
		"sriov": reader(netconf.ParseSriov), "macvlan": reader(netconf.ParseMacvlan), "ipvlan": reader(netconf.ParseIpvlan),
		"vlan": reader(netconf.ParseVlan), "bridge": reader(netconf.ParseBridge), "host-device": reader(netconf.ParseHostDevice),
		"bond": reader(netconf.ParseBond), "tuning": reader(netconf.ParseTuning), "sbr": reader(netconf.ParseSBR), "vrf": reader(netconf.ParseVRF),
	}
	for _, p := range n.Plugins {
		if err := readers[p.Type](p); err != nil {
			t.Errorf("%s: %v", section, err)
		}
	}
	raw, kind, err := netconf.ParseIPAM(n.Plugins[0])
	if err != nil {
		t.Errorf("%s: %v", section, err)
	}
	if kind != "" {
		addresses(t, section, raw, kind)
	}
}

func reader[T any](parse func(netconf.Plugin) (T, error)) func(netconf.Plugin) error {
	return func(p netconf.Plugin) error {
		_, err := parse(p)
		return err
	}
}

func addresses(t *testing.T, section string, raw json.RawMessage, kind string) {
	t.Helper()
	var err error
	if kind == "dhcp" {
		_, err = dhcp.Parse(raw, nil)
	} else {
		var c ipam.Config
		if c, err = ipam.Parse(raw); err == nil && c.Type != kind {
			t.Errorf("%s: the example is of type %s, not %s", section, c.Type, kind)
		}
	}
	if err != nil {
		t.Errorf("%s: %v", section, err)
	}
}

// check wants every field as code in one of the sections.
func check(t *testing.T, doc map[string]string, fields, in []string) {
	t.Helper()
	if len(fields) == 0 {
		t.Errorf("%v: no fields found in the source", in)
	}
	for _, f := range fields {
		if !slices.ContainsFunc(in, func(section string) bool { return slices.Contains(words(doc[section]), f) }) {
			t.Errorf("docs/networks.md: %q is read and stands in none of the sections %v", f, in)
		}
	}
}

// tabled wants nothing in the first column of a section's tables that is not read.
func tabled(t *testing.T, doc map[string]string, section string, fields []string) {
	t.Helper()
	rows := regexp.MustCompile("(?m)^\\| (`[^|]*) \\|").FindAllStringSubmatch(doc[section], -1)
	if len(rows) == 0 {
		t.Errorf("docs/networks.md: section %q has no table of fields", section)
	}
	for _, row := range rows {
		for _, f := range regexp.MustCompile("`[^`]+`").FindAllString(row[1], -1) {
			f = strings.Trim(f, "`")
			if f = f[strings.LastIndex(f, ".")+1:]; !slices.Contains(fields, f) {
				t.Errorf("docs/networks.md: %s has a field %q that no code reads", section, f)
			}
		}
	}
}

// words are what stands between back quotes.
func words(text string) []string {
	var out []string
	for _, span := range regexp.MustCompile("`[^`\n]+`").FindAllString(text, -1) {
		out = append(out, regexp.MustCompile(`[A-Za-z0-9_-]+`).FindAllString(span, -1)...)
	}
	return out
}

// sections are the parts of docs/networks.md by their headings.
func sections(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root(t), "docs", "networks.md"))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, part := range strings.Split(string(text), "\n## ")[1:] {
		name, body, _ := strings.Cut(part, "\n")
		out[name] = body
	}
	return out
}

// fieldsRead returns what tells the keys that a function of cni/netconf reads,
// itself or by the functions that it calls: the first argument of every method of
// object that has a parameter "key".
func fieldsRead(t *testing.T) func(function string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root(t), "cni/netconf/*.go"))
	if err != nil {
		t.Fatal(err)
	}
	decls := map[string]*ast.FuncDecl{}
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		for _, d := range parse(t, "cni/netconf/"+filepath.Base(path)).Decls {
			if f, ok := d.(*ast.FuncDecl); ok {
				decls[f.Name.Name] = f
			}
		}
	}
	var collect func(name string, seen, keys map[string]bool)
	collect = func(name string, seen, keys map[string]bool) {
		f := decls[name]
		if f == nil || seen[name] {
			return
		}
		seen[name] = true
		ast.Inspect(f, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			called := ""
			switch fun := call.Fun.(type) {
			case *ast.Ident:
				called = fun.Name
			case *ast.SelectorExpr:
				called = fun.Sel.Name
			}
			if key, ok := literal(call); ok && called != "refuse" && takesKey(decls[called]) {
				keys[key] = true
			}
			collect(called, seen, keys)
			return true
		})
	}
	return func(function string) []string {
		keys := map[string]bool{}
		collect(function, map[string]bool{}, keys)
		return slices.Sorted(maps.Keys(keys))
	}
}

func literal(call *ast.CallExpr) (string, bool) {
	if len(call.Args) == 0 {
		return "", false
	}
	lit, ok := call.Args[0].(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return "", false
	}
	s, err := strconv.Unquote(lit.Value)
	return s, err == nil
}

func takesKey(f *ast.FuncDecl) bool {
	if f == nil || f.Recv == nil || len(f.Type.Params.List) == 0 {
		return false
	}
	names := f.Type.Params.List[0].Names
	return len(names) > 0 && names[0].Name == "key"
}

// tagsIn returns the JSON names of all structure fields below node.
func tagsIn(node ast.Node) []string {
	var out []string
	ast.Inspect(node, func(n ast.Node) bool {
		if f, ok := n.(*ast.Field); ok && f.Tag != nil {
			text, _ := strconv.Unquote(f.Tag.Value)
			if name, _, _ := strings.Cut(reflect.StructTag(text).Get("json"), ","); name != "" && name != "-" {
				out = append(out, name)
			}
		}
		return true
	})
	return out
}

func function(t *testing.T, file *ast.File, name string) *ast.FuncDecl {
	t.Helper()
	for _, d := range file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok && f.Name.Name == name {
			return f
		}
	}
	t.Fatalf("no function %s", name)
	return nil
}

func parse(t *testing.T, path string) *ast.File {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root(t), path), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	return f
}
