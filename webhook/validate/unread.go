package validate

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/agnivade/levenshtein"

	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/ipam"
)

// unread warns of what a network served in process says without effect: the
// reference plugins too pass over what they do not know, so a definition that has
// served for years may have such a key, and a typo in a new one looks the same.
func (l *list) unread(n netconf.Network, config []byte) {
	if !n.Native() {
		return // the executables know what they read
	}
	for i, p := range n.Plugins {
		path := pluginPath(n, config, i)
		known := netconf.Fields(p.Type)
		for _, key := range netconf.Unread(p) {
			if p.Type == typeIpvlan && strings.EqualFold(key, "mac") {
				continue // see capabilities
			}
			l.add(NoEffect, Warn, path+key, written(p.Raw, key), instead(key, known, "type "+p.Type))
		}
		raw, kind, _ := netconf.ParseIPAM(p)
		if i > 0 && kind != "" {
			l.add(NoEffect, Warn, path+"ipam", kind, "absent here: the addresses are those of the first plugin")
			continue
		}
		for _, k := range ipam.Unread(raw) {
			key := k.Path[strings.LastIndexByte(k.Path, '.')+1:]
			l.add(NoEffect, Warn, path+k.Path, verbatim(short(string(k.Value))), instead(key, k.Known, "ipam of type "+kind))
		}
		l.idle(path, p, raw, kind)
	}
}

// idle warns of fields that are read and that do nothing beside the rest.
func (l *list) idle(path string, p netconf.Plugin, raw json.RawMessage, kind string) {
	if p.Type == typeBridge && field[string](p.Raw, "ipMasqBackend") == "iptables" {
		l.add(NoEffect, Warn, path+"ipMasqBackend", "iptables", "nftables, or absent: the rules are nftables whatever it says")
	}
	if has(raw, "resolvConf") && kind == ipam.TypeHostLocal {
		l.add(NoEffect, Warn, path+"ipam.resolvConf", field[string](raw, "resolvConf"), "absent: that file of the node is not read; name the servers in dns, beside ipam")
	}
	switch {
	case !has(raw, "dns"):
	case kind == "dhcp":
		l.add(NoEffect, Warn, path+"ipam.dns", written(raw, "dns"), "absent: it comes with the lease")
	case p.Type != typeBridge:
		l.add(NoEffect, Warn, path+"ipam.dns", written(raw, "dns"), "absent: the result of type "+p.Type+" has the dns beside ipam")
	case has(p.Raw, "dns"):
		l.add(NoEffect, Warn, path+"ipam.dns", written(raw, "dns"), "absent, while there is a dns beside ipam")
	}
}

// instead says what a key that nothing reads may have been meant for.
func instead(key string, known []string, who string) string {
	best, least := "", 3
	for _, k := range known {
		if d := levenshtein.ComputeDistance(strings.ToLower(key), strings.ToLower(k)); d < least && d < len(k) {
			best, least = k, d
		}
	}
	if best == "" {
		return fmt.Sprintf("absent: %s has no such field", who)
	}
	return fmt.Sprintf("%s, if that is what is meant: %s has no such field", best, who)
}

// verbatim is a value in JSON's own notation, which a finding prints as it is.
type verbatim string

// written is the value of a key as it stands there, cut.
func written(raw json.RawMessage, key string) verbatim {
	return verbatim(short(string(field[json.RawMessage](raw, key))))
}
