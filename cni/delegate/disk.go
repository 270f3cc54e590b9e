package delegate

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"

	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/cni/refusal"
)

// Candidate is one configuration file.
type Candidate struct {
	Path    string
	Network netconf.Network
	// Err says why the file is not usable; Network is then the zero value.
	Err error
}

// Candidates yields the CNI configuration files of dir in lexical order, those
// that cannot be used included: *.conflist, and *.conf and *.json, which hold a
// single plugin. A conflist is completed with the plugins of <dir>/<name>/*.conf
// unless it says loadOnlyInlinedPlugins (CNI specification 1.1, section 1). A
// directory that does not exist has no files.
func Candidates(dir string) iter.Seq[Candidate] { return candidates(dir, nil) }

// candidates is Candidates without the files that exclude names: they are not
// even read.
func candidates(dir string, exclude func(name string) bool) iter.Seq[Candidate] {
	return func(yield func(Candidate) bool) {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			yield(Candidate{Path: dir, Err: err})
			return
		}
		for _, e := range entries { // sorted by name
			path := filepath.Join(dir, e.Name())
			switch filepath.Ext(path) {
			case ".conflist", ".conf", ".json":
			default:
				continue
			}
			if e.IsDir() || exclude != nil && exclude(e.Name()) {
				continue
			}
			n, err := load(path)
			if !yield(Candidate{Path: path, Network: n, Err: err}) {
				return
			}
		}
	}
}

// Discover returns the cluster's default network: the first usable configuration
// in confDir, in lexical order, that is not one of Tendril's or Multus' own, and
// whose file name exclude does not exclude. Unusable files are passed over; when
// nothing is left, the error names each of them with the reason. Candidates has
// the reasons also when there was something.
func Discover(confDir string, exclude func(name string) bool) (netconf.Network, string, error) {
	var names, reasons []string
	for c := range candidates(confDir, exclude) {
		name := filepath.Base(c.Path)
		err := c.Err
		if err == nil {
			err = refusal.Name(checkForeign(c.Network), c.Path)
		}
		if err == nil {
			return c.Network, c.Path, nil
		}
		names, reasons = append(names, name), append(reasons, err.Error())
	}
	return netconf.Network{}, "", refusal.New("directory "+confDir, "files", names,
		"at least one usable configuration of a default network (*.conflist, *.conf, *.json)").Because(because(reasons))
}

// Find returns the first usable configuration in confDir whose network name is
// name: what a NetworkAttachmentDefinition with an empty config stands for.
// Unusable files are passed over, and named when nothing was found.
func Find(confDir, name string) (netconf.Network, string, error) {
	var reasons []string
	for c := range Candidates(confDir) {
		if c.Err != nil {
			reasons = append(reasons, c.Err.Error())
		} else if c.Network.Name == name {
			return c.Network, c.Path, nil
		}
	}
	return netconf.Network{}, "", refusal.New("directory "+confDir, "name", name,
		"the name of a network that is configured there").Because(because(reasons))
}

// because makes one line of the reasons why files were passed over: it ends up
// in events, which show no more.
func because(reasons []string) error {
	if len(reasons) == 0 {
		return nil
	}
	return errors.New("passed over: " + strings.Join(reasons, "; "))
}

func load(path string) (netconf.Network, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return netconf.Network{}, err
	}
	if filepath.Ext(path) == ".conflist" {
		data, err = complete(filepath.Dir(path), data)
	} else {
		err = checkSingle(data)
	}
	if err != nil {
		return netconf.Network{}, refusal.Name(err, path)
	}
	return netconf.ParseNetwork(path, data, "")
}

// checkSingle refuses a list in a file of the single form, which container
// runtimes do not read either.
func checkSingle(data []byte) error {
	var head struct {
		Type *json.RawMessage `json:"type"`
	}
	if json.Unmarshal(data, &head) == nil && head.Type == nil {
		return refusal.New("", "type", "", "the name of a plugin; a list belongs into a file *.conflist")
	}
	return nil // syntax errors are ParseNetwork's to describe
}

// complete appends the plugins that lie in the list's own directory.
func complete(dir string, data []byte) ([]byte, error) {
	list := map[string]json.RawMessage{}
	var head struct {
		Name   string `json:"name"`
		Inline any    `json:"loadOnlyInlinedPlugins"`
	}
	if json.Unmarshal(data, &list) != nil || json.Unmarshal(data, &head) != nil || isTrue(head.Inline) ||
		head.Name == "" || filepath.Base(head.Name) != head.Name || head.Name == ".." {
		return data, nil
	}
	files, err := filepath.Glob(filepath.Join(escape(dir), escape(head.Name), "*.conf"))
	if err != nil || len(files) == 0 {
		return data, err
	}
	var plugins []json.RawMessage
	if raw := list["plugins"]; raw != nil && json.Unmarshal(raw, &plugins) != nil {
		return data, nil
	}
	for _, f := range files { // sorted by Glob
		plugin, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		if !json.Valid(plugin) {
			return nil, refusal.New(f, "", string(plugin), "a JSON object")
		}
		plugins = append(plugins, plugin)
	}
	if list["plugins"], err = json.Marshal(plugins); err != nil {
		return nil, fmt.Errorf("encode plugins: %w", err)
	}
	return json.Marshal(list)
}

// isTrue reads a boolean as libcni does: also written as a string.
func isTrue(v any) bool {
	s, _ := v.(string)
	return v == true || strings.EqualFold(s, "true")
}

// escape makes s stand for itself in a pattern of filepath.Glob.
func escape(s string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(s)
}
