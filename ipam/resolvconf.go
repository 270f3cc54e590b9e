package ipam

import (
	"bytes"
	"strings"
)

// ParseResolvConf reads a file in resolv.conf form (resolv.conf(5)): nameserver,
// domain, search and options, the last domain winning, the others adding up.
// Comments and lines it does not know are skipped.
func ParseResolvConf(data []byte) DNS {
	var d DNS
	for line := range bytes.Lines(data) {
		f := strings.Fields(string(line))
		if len(f) < 2 || strings.ContainsAny(f[0][:1], "#;") {
			continue
		}
		switch f[0] {
		case "nameserver":
			d.Nameservers = append(d.Nameservers, f[1])
		case "domain":
			d.Domain = f[1]
		case "search":
			d.Search = append(d.Search, f[1:]...)
		case "options":
			d.Options = append(d.Options, f[1:]...)
		}
	}
	return d
}
