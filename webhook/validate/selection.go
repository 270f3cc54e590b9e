package validate

import (
	"strconv"
	"strings"

	nad "github.com/k8snetworkplumbingwg/network-attachment-definition-client/pkg/apis/k8s.cni.cncf.io/v1"

	"github.com/tendril-cni/tendril/cni/netconf"
)

// Selection is one network that a pod asks for.
type Selection struct {
	Element netconf.Element
	// Index is the place in the networks annotation; -1 for the default network.
	Index int
}

// Select reads which networks a pod of namespace with these annotations asks
// for: the replacement of its default network first, then the list in order. A
// text that does not parse is a finding and ends it.
func Select(object, namespace string, annotations map[string]string, f Facts) ([]Selection, []Finding) {
	l := &list{object: object}
	var out []Selection
	if text := annotations[DefaultNetworkAnnotation]; strings.TrimSpace(text) != "" {
		home := f.DefaultNamespace
		if home == "" {
			home = namespace
		}
		e, err := netconf.ParseDefaultNetwork(text, home)
		if err != nil {
			l.refuse(selectionCode(unwrap(err).Field), annotationField(DefaultNetworkAnnotation), err)
			return nil, l.all
		}
		out = append(out, Selection{Element: e, Index: -1})
	}
	elements, err := netconf.ParseSelections(annotations[NetworksAnnotation], namespace)
	if err != nil {
		l.refuse(selectionCode(unwrap(err).Field), annotationField(NetworksAnnotation), err)
		return nil, l.all
	}
	for i, e := range elements {
		out = append(out, Selection{Element: e, Index: i})
	}
	return out, nil
}

func annotationField(key string) string { return "metadata.annotations[" + key + "]" }

// field is where the selection stands in the pod.
func (s Selection) field(name string) string {
	if s.Index < 0 {
		return annotationField(DefaultNetworkAnnotation) + "." + name
	}
	return annotationField(NetworksAnnotation) + "[" + strconv.Itoa(s.Index) + "]." + name
}

// selectionCode maps the field of a selection that the parser refused.
func selectionCode(field string) string {
	_, name, _ := strings.Cut(field, "].")
	name, _, _ = strings.Cut(name, "[")
	switch name {
	case "interface":
		return BadInterface
	case "mac", "ips", "infiniband-guid":
		return BadRequest
	case "cni-args", "ipam-claim-reference":
		return BadArguments
	case "default-route":
		return BadPlace
	}
	return BadAnnotation
}

// Resolve finds the definitions of selections; find returns nil for one that
// does not exist. The result has a nil for each that was not found or is out of
// bounds, which is a finding where f says that all definitions are known.
func Resolve(object, namespace string, selections []Selection, f Facts, find func(namespace, name string) *nad.NetworkAttachmentDefinition) ([]*nad.NetworkAttachmentDefinition, []Finding) {
	l := &list{object: object}
	out := make([]*nad.NetworkAttachmentDefinition, len(selections))
	for i, s := range selections {
		e := s.Element
		if !f.Isolation.allows(namespace, e.Namespace) {
			l.add(NoDefinition, Deny, s.field("namespace"), e.Namespace, "the pod's own namespace "+namespace+orGlobal(f.Isolation.Global))
			continue
		}
		if out[i] = find(e.Namespace, e.Name); out[i] == nil && f.Complete {
			l.add(NoDefinition, Deny, s.field("name"), e.Ref(), "a NetworkAttachmentDefinition that exists"+neighbours(e.Namespace, f))
		}
	}
	return out, l.all
}

func orGlobal(global []string) string {
	if len(global) == 0 {
		return ""
	}
	return ", or one of " + strings.Join(global, ", ")
}

// neighbours lists definitions of a namespace, for who mistyped one.
func neighbours(namespace string, f Facts) string {
	names := map[string]bool{}
	for _, s := range f.summaries() {
		if s.Namespace == namespace {
			names[s.Name] = true
		}
	}
	return "; namespace " + namespace + " has " + some(names)
}
