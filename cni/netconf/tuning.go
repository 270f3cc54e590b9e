package netconf

import (
	"encoding/json"
	"maps"
	"net"
	"slices"
	"strings"
)

// Tuning is what the tuning plugin changes on an interface that exists. Nil and
// zero leave a value alone.
type Tuning struct {
	// Sysctls in the order of their keys, as written: dots or slashes, with
	// IFNAME for the interface.
	Sysctls []Sysctl
	// MAC in lower-case colon form.
	MAC      string
	MTU      int
	Promisc  bool
	Allmulti *bool
	TxQLen   *int
}

// Sysctl is one kernel parameter and its value.
type Sysctl struct{ Key, Value string }

// ParseTuning reads the configuration of tuning (containernetworking plugins
// v1.9, meta/tuning); args.cni wins over everything, as it does there. Every
// error is a refusal.Refusal without an object.
func ParseTuning(p Plugin) (Tuning, error) {
	o := openObject("", p.Raw)
	t := Tuning{}
	sysctls := map[string]string{}
	o.tuning(&t, sysctls)
	if rc := o.open("runtimeConfig"); rc != nil {
		if mac := rc.mac("mac"); mac != "" {
			t.MAC = mac
		}
		o.close(rc)
	}
	o.args(func(cni *object) { cni.tuning(&t, sysctls) })
	if o.err != nil {
		return Tuning{}, o.err
	}
	for k, v := range sysctls {
		t.Sysctls = append(t.Sysctls, Sysctl{k, v})
	}
	slices.SortFunc(t.Sysctls, func(a, b Sysctl) int { return strings.Compare(a.Key, b.Key) })
	return t, nil
}

// tuning reads the fields that stand both at the top and in args.cni.
func (o *object) tuning(t *Tuning, sysctls map[string]string) {
	o.sysctls(sysctls)
	if mac := o.mac("mac"); mac != "" {
		t.MAC = mac
	}
	if n := o.integer("mtu", 0, maxMTU); n != nil {
		t.MTU = int(*n)
	}
	if v := o.optionalFlag("promisc"); v != nil {
		t.Promisc = *v
	}
	if v := o.optionalFlag("allmulti"); v != nil {
		t.Allmulti = v
	}
	if n := o.integer("txQLen", 0, 1<<32-1); n != nil {
		t.TxQLen = ptr(int(*n))
	}
}

// sysctls adds the map "sysctl" to out. A key that stands there twice is refused.
func (o *object) sysctls(out map[string]string) {
	raw := o.raw("sysctl")
	if raw == nil {
		return
	}
	seen := map[string]bool{}
	dec := json.NewDecoder(strings.NewReader(string(raw)))
	if first, err := dec.Token(); err != nil || first != json.Delim('{') {
		o.refuse("sysctl", shown(raw), "an object of strings")
		return
	}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return // the whole was valid JSON
		}
		name, _ := key.(string)
		var value string
		if err := dec.Decode(&value); err != nil {
			o.refuse("sysctl."+name, shown(raw), "a string")
			return
		}
		o.sysctl(name, seen)
		maps.DeleteFunc(out, func(k, _ string) bool { return plain(k) == plain(name) })
		out[name] = value
	}
}

func (o *object) sysctl(name string, seen map[string]bool) {
	key := plain(name)
	if seen[key] {
		o.refuse("sysctl."+name, name, "every key once")
	}
	seen[key] = true
	if !strings.HasPrefix(key, "net/") || slices.Contains(strings.Split(key, "/"), "") || strings.ContainsRune(key, 0) {
		o.refuse("sysctl", name, "keys below net, such as net.ipv4.conf.IFNAME.arp_filter")
	}
}

// plain is a key with slashes alone.
func plain(name string) string { return strings.ReplaceAll(name, ".", "/") }

// parseHardware reads a hardware address of any length that Go knows.
func parseHardware(s string) (string, bool) {
	hw, err := net.ParseMAC(s)
	return hw.String(), err == nil
}
