package netconf

import "github.com/tendril-cni/tendril/cni/refusal"

// First returns the plugin that makes the interface: the first of the list. A
// network without any is refused.
func (n Network) First() (Plugin, error) {
	if len(n.Plugins) == 0 {
		return Plugin{}, refusal.New("", "plugins", "[]", "at least one plugin")
	}
	return n.Plugins[0], nil
}

// ArgsMAC returns the hardware address in args.cni.mac of p, in lower-case colon
// form, or "". Of the link kinds only bridge and tuning read it upstream.
func ArgsMAC(p Plugin) (string, error) {
	o := openObject("", p.Raw)
	var mac string
	o.args(func(cni *object) { mac = cni.mac("mac") })
	return mac, o.err
}

// args calls f with args.cni, if the configuration has it.
func (o *object) args(f func(cni *object)) {
	args := o.open("args")
	if args == nil {
		return
	}
	if cni := args.open("cni"); cni != nil {
		f(cni)
		args.close(cni)
	}
	o.close(args)
}

// linkName returns a field that names a link which Tendril makes or looks up by
// its own name, "" when absent.
func (o *object) linkName(key string) string {
	s := o.text(key)
	if s != "" && !ValidIfName(s) {
		o.refuse(key, s, "a link's name: 1..15 bytes without white space, '/', ':' and '%'")
	}
	return s
}

// optionalFlag returns a boolean field, nil when absent.
func (o *object) optionalFlag(key string) *bool {
	if o.raw(key) == nil {
		return nil
	}
	return ptr(o.flag(key))
}
