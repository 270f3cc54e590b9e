package ipam

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// unmeant are the keys of a type that are accepted and have no meaning here, as
// docs/compatibility.md lists them.
var unmeant = map[string][]string{
	TypeWhereabouts: {"configuration_path", "datastore", "enable_overlapping_ranges", "etcd_ca_cert_file", "etcd_cert_file", "etcd_host",
		"etcd_key_file", "etcd_password", "etcd_username", "kubernetes", "leader_lease_duration", "leader_renew_deadline",
		"leader_retry_period", "log_file", "log_level", "node_slice_size", "reconciler_cron_expression", "sleep_for_race"},
}

// notOf are the keys of the one structure of the reference plugins that belong to
// the other of the two types.
var notOf = map[string][]string{
	TypeStatic:    {"ranges", "subnet", "rangeStart", "rangeEnd", "gateway", "resolvConf", "dataDir"},
	TypeHostLocal: {"addresses"},
}

// Key is a key of an ipam object that nothing reads.
type Key struct {
	// Path is its place, such as "ipam.ranges[0][1].range_start".
	Path string
	// Value is what stands there, as JSON.
	Value json.RawMessage
	// Known are the keys that are read there, in alphabetical order.
	Known []string
}

// Unread returns the keys of an ipam object that Parse does not read, and those
// inside of its lists. It is empty for types that Parse does not know, and for
// tendril, whose unknown keys are refused.
func Unread(raw json.RawMessage) []Key {
	var kind struct {
		Type string `json:"type"`
	}
	if json.Unmarshal(raw, &kind) != nil {
		return nil
	}
	form := reflect.TypeFor[wire]()
	switch kind.Type {
	case TypeStatic, TypeHostLocal:
	case TypeWhereabouts:
		form = reflect.TypeFor[whereaboutsWire]()
	default:
		return nil
	}
	return slices.DeleteFunc(unread("ipam", raw, form, notOf[kind.Type]), func(k Key) bool {
		key := strings.ToLower(strings.TrimPrefix(k.Path, "ipam."))
		return key == "type" || slices.Contains(unmeant[kind.Type], key)
	})
}

// unread compares a value with the type that it is decoded into. The keys in not
// count as unread in this object.
func unread(path string, raw json.RawMessage, form reflect.Type, not []string) (out []Key) {
	switch form.Kind() {
	case reflect.Slice:
		var list []json.RawMessage
		if json.Unmarshal(raw, &list) != nil {
			return nil
		}
		for i, v := range list {
			out = append(out, unread(fmt.Sprintf("%s[%d]", path, i), v, form.Elem(), nil)...)
		}
	case reflect.Struct:
		var object map[string]json.RawMessage
		if json.Unmarshal(raw, &object) != nil {
			return nil
		}
		known := keys(form)
		maps.DeleteFunc(known, func(name string, _ reflect.Type) bool { return slices.Contains(not, name) })
		for _, key := range slices.Sorted(maps.Keys(object)) {
			name, inner := lookUp(known, key)
			if name == "" {
				out = append(out, Key{path + "." + key, object[key], slices.Sorted(maps.Keys(known))})
				continue
			}
			out = append(out, unread(path+"."+key, object[key], inner, nil)...)
		}
	}
	return out
}

// lookUp finds a key as encoding/json does, in upper or lower case.
func lookUp(known map[string]reflect.Type, key string) (string, reflect.Type) {
	for name, form := range known {
		if strings.EqualFold(name, key) {
			return name, form
		}
	}
	return "", nil
}

// keys are the JSON names of a structure's fields, embedded structures included.
func keys(form reflect.Type) map[string]reflect.Type {
	out := map[string]reflect.Type{}
	for i := range form.NumField() {
		f := form.Field(i)
		if f.Anonymous {
			maps.Copy(out, keys(f.Type))
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		out[name] = f.Type
	}
	return out
}
