package cni

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/cni/refusal"
)

// Annotations that say which networks a pod wants (NPWG v1.3 section 4.1, and
// Multus' own for the default network).
const (
	networksAnnotation = "k8s.v1.cni.cncf.io/networks"
	defaultAnnotation  = "v1.multus-cni.io/default-network"
)

// Choice is one network of a pod, with what the cluster or the node says of it.
type Choice struct {
	// Element is what the pod asks for; zero, but for the name, where it is the
	// node's configuration that gives the network.
	Element    netconf.Element
	Definition Definition
	// Network is the configuration where it is not Definition.Config: networks
	// written on the node.
	Network *netconf.Network
	// Asked says that the pod asked for the network itself.
	Asked bool
	// Where names the place that the network was chosen at, for refusals.
	Where string
}

// name is what network-status calls the network: namespace and name of a
// definition, and the CNI network's own name where there is none.
func (c Choice) name(n netconf.Network) string {
	if c.Definition.Name == "" {
		return n.Name
	}
	return c.Definition.Ref()
}

// object names the network in refusals.
func (c Choice) object() string {
	if c.Definition.Name == "" {
		return fmt.Sprintf("network %q (%s)", c.Network.Name, c.Where)
	}
	return fmt.Sprintf("NetworkAttachmentDefinition %q", c.Definition.Ref())
}

// described names the network in prose.
func (c Choice) described() string {
	if c.Definition.Name == "" {
		return fmt.Sprintf("%q", c.Network.Name)
	}
	return c.Definition.Ref()
}

// network is the configuration that holds.
func (c Choice) network() (netconf.Network, error) {
	if c.Network != nil {
		return *c.Network, nil
	}
	return netconf.ParseNetwork(c.object(), []byte(c.Definition.Config), c.Definition.Name)
}

// primary returns the node's default network.
func (e *Engine) primary(ctx context.Context) (Choice, error) {
	if name := e.node().ClusterNetwork; name != "" {
		return e.named(ctx, name, "clusterNetwork")
	}
	n, err := e.Default()
	return Choice{Network: &n, Where: "default network"}, err
}

// podPrimary returns the pod's default network: that of its annotation, or else
// the node's.
func (e *Engine) podPrimary(ctx context.Context, pod Pod) (Choice, error) {
	text := pod.Annotations[defaultAnnotation]
	if strings.TrimSpace(text) == "" {
		return e.primary(ctx)
	}
	object := fmt.Sprintf("pod %s annotation %s", pod.PodRef, defaultAnnotation)
	el, err := netconf.ParseDefaultNetwork(text, e.node().Namespace())
	if err != nil {
		return Choice{}, refusal.Name(err, object)
	}
	return e.asked(ctx, pod, el, defaultAnnotation, object)
}

// choices returns the networks of a pod beside the default one, in the order in
// which they are attached and numbered: those that the node gives to every pod,
// then those that the pod asks for.
func (e *Engine) choices(ctx context.Context, pod Pod) ([]Choice, error) {
	out, err := e.given(ctx, pod)
	if err != nil {
		return nil, err
	}
	object := fmt.Sprintf("pod %s annotation %s", pod.PodRef, networksAnnotation)
	elements, err := netconf.ParseSelections(pod.Annotations[networksAnnotation], pod.Namespace)
	if err != nil {
		return nil, refusal.Name(err, object)
	}
	for i, el := range elements {
		c, err := e.asked(ctx, pod, el, networksAnnotation, fmt.Sprintf("networks annotation element %d (%s)", i, el.Ref()))
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

// given returns the networks that the node's configuration gives to the pod.
func (e *Engine) given(ctx context.Context, pod Pod) ([]Choice, error) {
	var out []Choice
	said := e.node()
	for i := range said.Delegates {
		if i > 0 {
			out = append(out, Choice{Network: &said.Delegates[i], Where: fmt.Sprintf("delegates[%d] of the node's configuration", i)})
		}
	}
	if said.System(pod.Namespace) {
		return out, nil
	}
	for i, name := range said.DefaultNetworks {
		c, err := e.named(ctx, name, fmt.Sprintf("defaultNetworks[%d]", i))
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

// asked looks up an element of a pod's annotation, if the pod may use it.
func (e *Engine) asked(ctx context.Context, pod Pod, el netconf.Element, field, where string) (Choice, error) {
	object := fmt.Sprintf("pod %s", pod.PodRef)
	if err := e.node().Permit(pod.Namespace, el, field); err != nil {
		return Choice{}, refusal.Name(err, object)
	}
	def, err := e.Cluster.Definition(ctx, el.Namespace, el.Name)
	if err != nil {
		return Choice{}, refusal.Name(err, object)
	}
	c := Choice{Element: el, Definition: def, Asked: true, Where: where}
	return e.fromDisk(c)
}

// named looks up a network that the node's configuration names: a definition in
// the node's namespace, or else a configuration on disk.
func (e *Engine) named(ctx context.Context, name, field string) (Choice, error) {
	where := field + " of the node's configuration"
	if strings.Contains(name, "/") {
		n, err := e.find(name)
		return Choice{Network: &n, Where: where}, refusal.Name(err, where)
	}
	// What is on disk is not waited for.
	now, cancel := context.WithCancel(ctx)
	cancel()
	def, err := e.Cluster.Definition(now, e.node().Namespace(), name)
	if err != nil {
		n, onDisk := e.find(name)
		if onDisk == nil {
			return Choice{Network: &n, Where: where}, nil
		}
		if def, err = e.Cluster.Definition(ctx, e.node().Namespace(), name); err != nil {
			return Choice{}, refusal.New("node's configuration", field, name,
				"a NetworkAttachmentDefinition of namespace "+e.node().Namespace()+", or a network on the node's disk").Because(errors.Join(err, onDisk))
		}
	}
	c := Choice{Element: netconf.Element{Namespace: def.Namespace, Name: def.Name}, Definition: def, Where: where}
	return e.fromDisk(c)
}

// fromDisk completes a definition without a configuration from the disk, where
// the network of that name is.
func (e *Engine) fromDisk(c Choice) (Choice, error) {
	if strings.TrimSpace(c.Definition.Config) != "" {
		return c, nil
	}
	n, err := e.find(c.Definition.Name)
	if err != nil {
		return Choice{}, refusal.New(c.object(), "spec.config", c.Definition.Config,
			"a CNI configuration, or none and a configuration of that name on the node").Because(err)
	}
	c.Network = &n
	return c, nil
}

func (e *Engine) find(name string) (netconf.Network, error) {
	if e.Find == nil {
		return netconf.Network{}, refusal.New("", "name", name, "none: this daemon reads no networks from disk")
	}
	return e.Find(name)
}

// node is the node's say in networks.
func (e *Engine) node() netconf.Node {
	if e.Node == nil {
		return netconf.Node{}
	}
	return e.Node()
}
