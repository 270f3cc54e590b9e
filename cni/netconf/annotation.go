package netconf

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/tendril-cni/tendril/cni/refusal"
)

// ParseSelections reads the annotation k8s.v1.cni.cncf.io/networks of a pod in
// namespace (NPWG v1.3). Text with any of [ { " is a JSON list,
// everything else the short form. Blank text selects nothing. The elements keep
// their order; one definition may be selected many times, one interface name
// only once.
//
// Every error is a refusal.Refusal without an object: its field starts with the
// element's index, and its cause is the Position of the element or, for broken
// JSON, of the first bad byte.
func ParseSelections(annotation, namespace string) ([]Element, error) {
	var out []Element
	var err error
	switch {
	case strings.TrimSpace(annotation) == "":
		return nil, nil
	case strings.ContainsAny(annotation, `[{"`):
		out, err = parseLong([]byte(annotation), namespace)
	default:
		out, err = parseShort(annotation, namespace)
	}
	if err != nil {
		return nil, err
	}
	return out, nil
}

// ParseDefaultNetwork reads the annotation v1.multus-cni.io/default-network:
// the same forms, exactly one element. namespace is that of definitions named
// without one, upstream the meta-plugin's own and not the pod's.
func ParseDefaultNetwork(annotation, namespace string) (Element, error) {
	all, err := ParseSelections(annotation, namespace)
	if err != nil {
		return Element{}, err
	}
	if len(all) != 1 {
		return Element{}, refusal.New("", "", annotation, fmt.Sprintf("exactly one network, not %d", len(all)))
	}
	return all[0], nil
}

// parseShort reads [<namespace>/]<name>[@<interface>], comma separated.
func parseShort(text, namespace string) ([]Element, error) {
	var out []Element
	at := 0
	for i, item := range strings.Split(text, ",") {
		e, err := shortElement(item, namespace)
		if err == nil {
			err = interfaceTaken(out, e)
		}
		if err != nil {
			start := at + len(item) - len(strings.TrimLeft(item, " \t\r\n"))
			return nil, inElement(err, i, positionOf([]byte(text), start))
		}
		out = append(out, e)
		at += len(item) + 1
	}
	return out, nil
}

func shortElement(item, namespace string) (Element, error) {
	e := Element{Namespace: namespace}
	trimmed := strings.TrimSpace(item)
	if trimmed == "" || strings.Count(item, "/") > 1 || strings.Count(item, "@") > 1 {
		return e, refusal.New("", "", trimmed, "[<namespace>/]<name>[@<interface>]")
	}
	rest := item
	if ns, after, ok := strings.Cut(item, "/"); ok {
		rest = after
		if ns = strings.TrimSpace(ns); ns != "" {
			e.Namespace = ns
		}
	}
	name, ifName, _ := strings.Cut(rest, "@")
	e.Name, e.Interface = strings.TrimSpace(name), strings.TrimSpace(ifName)
	// Dots are for the long form only: the short form is made of labels.
	if !dnsLabel(e.Name) || len(e.Name) > 253 {
		return e, refusal.New("", "name", e.Name, "lower-case letters, digits and '-' in the short form, at most 253 bytes")
	}
	return e, e.checkPlace()
}

// checkPlace looks at namespace and interface, which both forms share.
func (e Element) checkPlace() error {
	if !validLabel(e.Namespace) {
		return refusal.New("", "namespace", e.Namespace, labelForm)
	}
	if e.Interface != "" && !ValidIfName(e.Interface) {
		return refusal.New("", "interface", e.Interface, ifNameForm)
	}
	return nil
}

// parseLong reads a JSON list of objects.
func parseLong(text []byte, namespace string) ([]Element, error) {
	var list []json.RawMessage
	if err := json.Unmarshal(text, &list); err != nil {
		if !json.Valid(text) {
			return nil, syntaxRefusal("", text, err)
		}
		r := refusal.New("", "", shown(text), "a JSON list of objects, or <namespace>/<name>@<interface>, ...")
		return nil, r.Because(positionOf(text, 0))
	}
	var out []Element
	at := 0
	for i, raw := range list {
		at += bytes.Index(text[at:], raw)
		e, err := parseElement(raw, namespace)
		if err == nil {
			err = interfaceTaken(out, e)
		}
		if err != nil {
			return nil, inElement(err, i, positionOf(text, at))
		}
		out = append(out, e)
		at += len(raw)
	}
	return out, nil
}

// interfaceTaken refuses a second element with the same interface name: the
// second attach could only fail.
func interfaceTaken(before []Element, e Element) error {
	for i, b := range before {
		if e.Interface != "" && b.Interface == e.Interface {
			return refusal.New("", "interface", e.Interface, fmt.Sprintf("a name that element %d does not have", i))
		}
	}
	return nil
}

// inElement puts index and position to a refusal of one element.
func inElement(err error, index int, at Position) error {
	r, ok := err.(*refusal.Refusal)
	if !ok {
		return err
	}
	c := *r
	field := fmt.Sprintf("[%d]", index)
	if c.Field != "" {
		field += "." + c.Field
	}
	c.Field = field
	if c.Cause == nil {
		c.Cause = at
	}
	return &c
}
