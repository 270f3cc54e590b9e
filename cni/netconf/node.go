package netconf

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/tendril-cni/tendril/cni/refusal"
)

// Node is what a node says about networks: which one is the default, which ones
// every pod gets, and which ones a pod may ask for. The zero Node discovers the
// default network, adds nothing and isolates nothing. It is a value that nobody
// changes once it was parsed.
type Node struct {
	// ConfDir holds the configurations of networks that are only named; empty for
	// the places where Multus and the container runtime have them.
	ConfDir string
	// BinDir is where plugins are looked up before CNI_PATH; empty for nowhere.
	BinDir string
	// ClusterNetwork is the default network: the name of a definition in Home or
	// of a configuration in ConfDir, or the path of a file or a directory.
	// Empty: Delegates[0], and without that what is found in DiscoverDir.
	ClusterNetwork string
	// Delegates are networks written out. The first one is the default network,
	// the others every pod gets before any other. Empty with a ClusterNetwork.
	Delegates []Network
	// DefaultNetworks are attached to every pod, except in SystemNamespaces,
	// before those that it asks for. Each is named as ClusterNetwork is.
	DefaultNetworks  []string
	SystemNamespaces []string
	// Home is the namespace of the definitions that ClusterNetwork,
	// DefaultNetworks and the default-network annotation name.
	Home string
	// Isolation restricts pods to definitions of their own namespace and of the
	// Global ones.
	Isolation bool
	Global    []string
	// ReadinessFile has to exist before a pod gets its networks; empty for none.
	ReadinessFile string
	// DiscoverDir is where the default network is searched, and MasterFile the
	// file there that has it; empty for the runtime's directory and the first.
	DiscoverDir, MasterFile string
	// Idle are the keys that were given, are known of Multus, and mean nothing to
	// Tendril, in order.
	Idle []string
}

// defaultHome and defaultGlobal are Multus' defaults.
const (
	defaultHome   = "kube-system"
	defaultGlobal = "default"
)

// Namespace returns Home, or Multus' default for it.
func (n Node) Namespace() string {
	if n.Home == "" {
		return defaultHome
	}
	return n.Home
}

// System reports whether pods of that namespace go without DefaultNetworks.
func (n Node) System(namespace string) bool { return slices.Contains(n.SystemNamespaces, namespace) }

// Gives reports whether every pod gets the definition ref ("namespace/name"),
// system namespaces aside.
func (n Node) Gives(ref string) bool {
	return slices.ContainsFunc(n.DefaultNetworks, func(name string) bool { return n.Namespace()+"/"+name == ref })
}

// Permit refuses an element whose definition lies in a namespace that pods of
// podNamespace may not use. field is the annotation or the like that the element
// comes from; the refusal is without an object. It holds for every way in which
// a pod can ask (invariant 10 of the design).
func (n Node) Permit(podNamespace string, e Element, field string) error {
	if !n.Isolation || e.Namespace == podNamespace || slices.Contains(n.Global, e.Namespace) {
		return nil
	}
	allowed := fmt.Sprintf("networks of namespace %s", podNamespace)
	if len(n.Global) > 0 {
		allowed += " and of the global namespaces " + strings.Join(n.Global, ", ")
	}
	return refusal.New("", field, e.Ref(), allowed+" (namespaceIsolation)")
}

// idle are keys of Multus' configurations that are accepted and mean nothing
// here: transport, logging, state and installation are Tendril's own affair, and
// docs/configuration.md says for each what takes its place.
var idle = []string{
	"cniVersion", "cniVersions", "name", "type", "capabilities", "runtimeConfig", "prevResult", "disableCheck", "disableGC",
	"cniDir", "cniConf", "cniConfigDir", "kubeconfig", "logLevel", "logToStderr", "logFile", "logOptions",
	"retryDeleteOnError", "allowTryDeleteOnErr", "daemonSocketDir", "socketDir", "metricsPort", "enablePprof",
	"connectionLimit", "perNodeCertificate", "forceCNIVersion", "overrideNetworkName",
}

// read are the keys that Node is made of.
var read = []string{
	"confDir", "binDir", "clusterNetwork", "delegates", "defaultNetworks", "systemNamespaces", "multusNamespace",
	"namespaceIsolation", "globalNamespaces", "readinessindicatorfile", "multusAutoconfigDir", "multusMasterCNI",
	"multusConfigFile", "chrootDir", "auxiliaryCNIChainName",
}

// ParseNode reads a node's configuration of networks. It takes the
// configurations of Multus v4 as they are: that of the daemon
// (daemon-config.json), of the thin plugin and of its shim (00-multus.conf).
// object names the file in refusals. Keys that neither knows are refused.
//
// Paths below /host, or below chrootDir, are taken for the host's: it is where
// Multus' manifests mount them.
func ParseNode(object string, data []byte) (Node, error) {
	n, err := parseNode(data)
	if err != nil {
		return Node{}, refusal.Name(err, object)
	}
	return n, nil
}

func parseNode(data []byte) (Node, error) {
	o := openObject("", data)
	if o.err != nil {
		return Node{}, o.err
	}
	o.known(slices.Concat(read, idle))
	host := hostRoot(o.text("chrootDir"))
	n := Node{
		ConfDir:        host.path(o, "confDir"),
		BinDir:         host.path(o, "binDir"),
		ClusterNetwork: o.network("clusterNetwork", o.text("clusterNetwork"), host),
		Delegates:      o.delegates("delegates"),
		Home:           o.text("multusNamespace"),
		Isolation:      o.flag("namespaceIsolation"),
		Global:         o.globals("globalNamespaces"),
		ReadinessFile:  host.path(o, "readinessindicatorfile"),
		DiscoverDir:    host.path(o, "multusAutoconfigDir"),
		MasterFile:     o.text("multusMasterCNI"),
		Idle:           o.given(idle),
	}
	for i, name := range o.texts("defaultNetworks") {
		n.DefaultNetworks = append(n.DefaultNetworks, o.network(fmt.Sprintf("defaultNetworks[%d]", i), name, host))
	}
	if n.SystemNamespaces = o.texts("systemNamespaces"); o.raw("systemNamespaces") == nil {
		n.SystemNamespaces = []string{defaultHome}
	}
	o.checkNode(n)
	if n.ClusterNetwork != "" {
		n.Delegates = nil // as in Multus
	}
	return n, o.err
}

// checkNode looks at what one field alone does not say.
func (o *object) checkNode(n Node) {
	for i, ns := range n.SystemNamespaces {
		if !validLabel(ns) {
			o.refuse(fmt.Sprintf("systemNamespaces[%d]", i), ns, labelForm)
		}
	}
	if n.Home != "" && !validLabel(n.Home) {
		o.refuse("multusNamespace", n.Home, labelForm)
	}
	if n.MasterFile != "" && path.Base(n.MasterFile) != n.MasterFile {
		o.refuse("multusMasterCNI", n.MasterFile, "the name of a file in multusAutoconfigDir, without a directory")
	}
	if file := o.text("multusConfigFile"); file != "" && file != "auto" {
		o.refuse("multusConfigFile", file, "auto; give the networks of that file here or its path to tendrild in place of this one")
	}
	if chain := o.text("auxiliaryCNIChainName"); chain != "" {
		o.refuse("auxiliaryCNIChainName", chain, "none: Tendril runs no auxiliary chain; make it a network of defaultNetworks")
	}
}

// known refuses the first key that is not of keys.
func (o *object) known(keys []string) {
	for _, key := range slices.Sorted(maps.Keys(o.fields)) {
		if !slices.ContainsFunc(keys, func(k string) bool { return strings.EqualFold(k, key) }) {
			o.refuse(key, shown(o.fields[key]), "absent: no such key; known are "+strings.Join(read, ", ")+", and the rest of Multus' keys")
		}
	}
}

// given returns those of keys that the object has, as spelled in keys.
func (o *object) given(keys []string) []string {
	var out []string
	for _, k := range keys {
		if o.raw(k) != nil {
			out = append(out, k)
		}
	}
	return out
}

// network checks the name of a network: that of a definition, of a configuration,
// or a path.
func (o *object) network(key, name string, host hostRoot) string {
	switch {
	case strings.Contains(name, "/"):
		if !path.IsAbs(name) {
			o.refuse(key, name, "a name without '/', or an absolute path of a file or a directory")
		}
		return host.strip(name)
	case name != "" && !validName(name):
		o.refuse(key, name, "the name of a network: "+nameForm)
	}
	return name
}

// delegates returns a list of networks.
func (o *object) delegates(key string) []Network {
	var out []Network
	for i, raw := range o.list(key) {
		n, err := parseNetwork(raw, o.text("name")) // examples of Multus leave the inner one out
		if r, ok := err.(*refusal.Refusal); ok && o.err == nil {
			c := *r
			c.Field = strings.TrimSuffix(fmt.Sprintf("%s%s[%d].%s", o.path, key, i, r.Field), ".")
			o.err = &c
		}
		out = append(out, n)
	}
	return out
}

// globals returns the namespaces of a comma list; absent means "default", and
// any value, an empty one included, takes its place.
func (o *object) globals(key string) []string {
	if o.raw(key) == nil {
		return []string{defaultGlobal}
	}
	var out []string
	for ns := range strings.SplitSeq(o.text(key), ",") {
		if ns = strings.TrimSpace(ns); ns == "" {
			continue
		}
		if !validLabel(ns) {
			o.refuse(key, ns, labelForm)
		}
		out = append(out, ns)
	}
	return out
}

// hostRoot is where the writer of a configuration had the host's root mounted.
type hostRoot string

// path returns an absolute path as the host has it, "" when absent.
func (h hostRoot) path(o *object, key string) string {
	p := o.text(key)
	if p == "" {
		return ""
	}
	if !path.IsAbs(p) {
		o.refuse(key, p, "an absolute path")
	}
	return h.strip(p)
}

func (h hostRoot) strip(p string) string {
	for _, root := range []string{string(h), "/host"} {
		if rest, ok := strings.CutPrefix(path.Clean(p), path.Clean(root)+"/"); ok && root != "" && path.Clean(root) != "/" {
			return "/" + rest
		}
	}
	return path.Clean(p)
}
