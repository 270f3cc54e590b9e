package doctor

import (
	"maps"
	"slices"
	"strings"
)

// ClusterFacts are what is known of the cluster as a whole.
type ClusterFacts struct {
	// Version is the API server's.
	Version string
	// Missing are the kinds that should be installed and are not.
	Missing []string
	// Installed, Ready and Unread are as in explain.Webhook.
	Installed bool
	Ready     int
	Unread    string
	// Trusted says that the API server trusts the webhook's certificate.
	Trusted bool
	// Others are workloads of other network stacks, as "kind namespace/name", by
	// what they are.
	Others map[string][]string
	// Versions are the daemons', by version the nodes.
	Versions map[string][]string
}

// Cluster checks what is not a node's.
func Cluster(f ClusterFacts) []Check {
	l := &list{}
	l.ok("api server", "%s", f.Version)
	if len(f.Missing) > 0 {
		l.fail("kinds", "kubectl apply -f deployment/crds", "not installed: %s", strings.Join(f.Missing, ", "))
	} else {
		l.ok("kinds", "all installed")
	}
	switch {
	case f.Unread != "":
		l.add(Unknown, "injection", "", "%s", f.Unread)
	case !f.Installed:
		l.warn("injection", "kubectl apply -f deployment/manifests/controller.yaml", "not installed: pods have to ask for devices themselves, and mistakes are found on the node")
	case f.Ready == 0:
		l.fail("injection", "kubectl -n tendril-system get pods", "no replica is ready: pods that ask for networks are refused")
	case !f.Trusted:
		l.fail("injection", "the controller writes caBundle: see its log", "the API server does not trust its certificate yet")
	default:
		l.ok("injection", "replicas ready: %d", f.Ready)
	}
	if len(f.Versions) > 1 {
		l.warn("versions", "normal during a roll-out", "daemons of %d releases run: %s", len(f.Versions), strings.Join(sortedKeys(f.Versions), ", "))
	}
	for _, what := range sortedKeys(f.Others) {
		l.warn("other stack", "kubectl tendril migrate", "%s: %s", what, strings.Join(f.Others[what], ", "))
	}
	return l.all
}

// others are the stacks that Tendril stands in for, by a word that their images
// have.
var others = map[string]string{
	"multus-cni": "Multus", "multus": "Multus", "whereabouts": "whereabouts", "sriov-network-device-plugin": "SR-IOV device plugin",
	"sriov-network-operator": "SR-IOV operator", "sriov-network-operator-config-daemon": "SR-IOV operator", "network-resources-injector": "network resources injector", "sriov-cni": "sriov-cni",
}

// Other says which other network stack an image is of, "" for none.
func Other(image string) string {
	path, _, _ := strings.Cut(image, "@")
	name := path[strings.LastIndexByte(path, '/')+1:]
	name, _, _ = strings.Cut(name, ":")
	return others[name]
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
