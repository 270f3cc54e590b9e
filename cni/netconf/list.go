package netconf

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// List returns n as a CNI configuration list (CNI SPEC 1.1, section 1) for
// execution by libcni or the shim: every plugin object as it was written.
func List(n Network) ([]byte, error) {
	doc := struct {
		CNIVersion   string            `json:"cniVersion"`
		Name         string            `json:"name"`
		DisableCheck bool              `json:"disableCheck,omitempty"`
		DisableGC    bool              `json:"disableGC,omitempty"`
		Plugins      []json.RawMessage `json:"plugins"`
	}{n.CNIVersion, n.Name, n.DisableCheck, n.DisableGC, []json.RawMessage{}}
	for _, p := range n.Plugins {
		doc.Plugins = append(doc.Plugins, p.Raw)
	}
	data, err := encode(doc)
	if err != nil {
		return nil, fmt.Errorf("encode network %s: %w", n.Name, err)
	}
	return data, nil
}

// WithDevice returns n with deviceID and pciBusID set to device at the top of
// every plugin object: what the reference meta-plugin does, and what sriov,
// host-device and their kin look for. An empty device changes nothing. n itself
// is not changed.
func WithDevice(n Network, device string) Network {
	if device == "" {
		return n
	}
	id, _ := json.Marshal(device)
	n.Plugins = slices.Clone(n.Plugins)
	for i, p := range n.Plugins {
		// Raw was a valid object when it was parsed, so this cannot fail for a
		// Network from ParseNetwork; any other keeps what it has.
		if raw, err := set(p.Raw, map[string]json.RawMessage{"deviceID": id, "pciBusID": id}); err == nil {
			n.Plugins[i].Raw = raw
		}
	}
	return n
}

// WithArgs returns n with args merged key by key over args.cni of every plugin
// object; the keys of args win. n itself is not changed. A configuration whose
// args or args.cni is no object is refused.
func WithArgs(n Network, args map[string]json.RawMessage) (Network, error) {
	if len(args) == 0 {
		return n, nil
	}
	n.Plugins = slices.Clone(n.Plugins)
	for i, p := range n.Plugins {
		raw, err := merge(p.Raw, args)
		if err != nil {
			return Network{}, err
		}
		n.Plugins[i].Raw = raw
	}
	return n, nil
}

func merge(raw json.RawMessage, args map[string]json.RawMessage) (json.RawMessage, error) {
	o := openObject("", raw)
	outer, inner := json.RawMessage("{}"), json.RawMessage("{}")
	if a := o.open("args"); a != nil {
		outer = o.raw("args")
		if c := a.open("cni"); c != nil {
			inner = a.raw("cni")
		}
		o.close(a)
	}
	if o.err != nil {
		return nil, o.err
	}
	inner, err := set(inner, args)
	if err != nil {
		return nil, err
	}
	if outer, err = set(outer, map[string]json.RawMessage{"cni": inner}); err != nil {
		return nil, err
	}
	return set(raw, map[string]json.RawMessage{"args": outer})
}

// set returns the object raw with values set. Other spellings of the same keys
// go, since to a Go plugin they are the same field.
func set(raw json.RawMessage, values map[string]json.RawMessage) (json.RawMessage, error) {
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal(raw, &fields); err != nil {
		return nil, syntaxRefusal("", raw, err)
	}
	if fields == nil {
		fields = map[string]json.RawMessage{}
	}
	for key, value := range values {
		maps.DeleteFunc(fields, func(k string, _ json.RawMessage) bool { return strings.EqualFold(k, key) })
		fields[key] = value
	}
	return encode(fields)
}

// encode is json.Marshal without the escaping meant for web pages: a plugin's
// text stays as it was written.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimRight(b.Bytes(), "\n"), nil
}
