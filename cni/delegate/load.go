package delegate

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/cni/refusal"
)

// Load reads the network at path: a directory stands for the first usable file
// in it (see Discover), a *.conflist is completed from its own directory, and any
// other file is a single plugin. Networks of Tendril and Multus themselves are
// refused.
func Load(path string, exclude func(name string) bool) (netconf.Network, error) {
	info, err := os.Stat(path)
	if err != nil {
		return netconf.Network{}, refusal.New("", "path", path, "a CNI configuration file, or a directory with one").Because(err)
	}
	if info.IsDir() {
		n, _, err := Discover(path, exclude)
		return n, err
	}
	n, err := load(path)
	if err == nil {
		err = refusal.Name(checkForeign(n), path)
	}
	return n, err
}

// Lookup is Find in several directories, of which the first that has the network
// counts.
func Lookup(dirs []string, name string) (netconf.Network, error) {
	var reasons []string
	for _, dir := range dirs {
		n, _, err := Find(dir, name)
		if err == nil {
			return n, refusal.Name(checkForeign(n), filepath.Join(dir, name))
		}
		reasons = append(reasons, err.Error())
	}
	return netconf.Network{}, refusal.New("directories "+strings.Join(dirs, ", "), "name", name,
		"the name of a network that is configured there").Because(because(reasons))
}
