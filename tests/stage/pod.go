package stage

import (
	"encoding/json"

	"github.com/tendril-cni/tendril/tests/lab/cluster"
)

// Annotations by which a pod asks for networks.
const (
	NetworksAnnotation       = "k8s.v1.cni.cncf.io/networks"
	DefaultNetworkAnnotation = "v1.multus-cni.io/default-network"
)

// Limits are a container's extended resources, by resource name.
type Limits map[string]string

// VF is the limits of a container with n VFs of the stage's own pool.
func VF(n string) Limits { return Limits{Resource: n} }

// Pod is a pod of the tools image that sleeps until it is deleted.
type Pod struct {
	Name string
	// Namespace is "default" if empty.
	Namespace string
	// Node is the number of the node that it has to run on; 0 leaves it to the
	// scheduler.
	Node int
	// Placed has it put there without asking the scheduler, which keeps off nodes
	// that are not ready.
	Placed bool
	// Networks is the value of NetworksAnnotation; empty for none.
	Networks string
	// Annotations are further ones.
	Annotations map[string]string
	Labels      map[string]string
	// Containers are the limits of one container each, named c0, c1 and so on;
	// empty for one container without limits.
	Containers []Limits
}

// String is the pod's manifest.
func (p Pod) String() string {
	annotations := map[string]string{}
	for k, v := range p.Annotations {
		annotations[k] = v
	}
	if p.Networks != "" {
		annotations[NetworksAnnotation] = p.Networks
	}
	spec := map[string]any{"terminationGracePeriodSeconds": 1, "containers": p.containers()}
	switch {
	case p.Placed:
		spec["nodeName"] = cluster.NodeName(p.Node)
	case p.Node != 0:
		spec["nodeSelector"] = map[string]string{"kubernetes.io/hostname": cluster.NodeName(p.Node)}
	}
	return manifest("v1", "Pod", metadata(p.Name, p.Namespace, annotations, p.Labels), spec)
}

func (p Pod) containers() []map[string]any {
	all := p.Containers
	if len(all) == 0 {
		all = []Limits{nil}
	}
	var out []map[string]any
	for i, limits := range all {
		out = append(out, map[string]any{
			"name": "c" + string(rune('0'+i)), "image": cluster.ToolsImage, "imagePullPolicy": "Never",
			"command": []string{"sleep", "100000"}, "resources": map[string]any{"limits": limits},
		})
	}
	return out
}

// Network is a NetworkAttachmentDefinition.
type Network struct {
	Name string
	// Namespace is "default" if empty.
	Namespace string
	// ResourceName is the device pool that it takes devices from; empty for none.
	ResourceName string
	// Config is the CNI configuration, JSON.
	Config string
}

// String is the network's manifest.
func (n Network) String() string {
	annotations := map[string]string{}
	if n.ResourceName != "" {
		annotations["k8s.v1.cni.cncf.io/resourceName"] = n.ResourceName
	}
	return manifest("k8s.cni.cncf.io/v1", "NetworkAttachmentDefinition", metadata(n.Name, n.Namespace, annotations, nil), map[string]any{"config": n.Config})
}

func metadata(name, namespace string, annotations, labels map[string]string) map[string]any {
	if namespace == "" {
		namespace = "default"
	}
	return map[string]any{"name": name, "namespace": namespace, "annotations": annotations, "labels": labels}
}

func manifest(version, kind string, meta map[string]any, spec any) string {
	data, err := json.Marshal(map[string]any{"apiVersion": version, "kind": kind, "metadata": meta, "spec": spec})
	if err != nil {
		panic(err) // strings and numbers
	}
	return string(data)
}
