package cni_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/google/go-cmp/cmp"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/journal"
	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/ipam"
	"github.com/tendril-cni/tendril/ipam/hostlocal"
)

// cabinet is a node with a default network of type bridge, whose addresses are in
// files, and a macvlan beside it.
type cabinet struct {
	*world
	dir  string
	seen bool // whether the daemon sees the directory
	boot string
}

func newCabinet(t *testing.T) *cabinet {
	c := &cabinet{world: newWorld(t), dir: t.TempDir(), seen: true, boot: "boot"}
	c.defConf = fmt.Sprintf(`{"cniVersion":"1.0.0","name":"cbr0","type":"bridge","isGateway":true,
		"ipam":{"type":"host-local","dataDir":%q,"subnet":"203.0.113.0/29","routes":[{"dst":"0.0.0.0/0"}]}}`, c.dir)
	c.nads["blue/storage"] = cni.Definition{Namespace: "blue", Name: "storage", Config: `{"cniVersion":"1.0.0","type":"macvlan","master":"m0","ipam":{"type":"host-local","subnet":"192.0.2.0/29"}}`}
	c.pod("storage")
	return c
}

func (c *cabinet) start(path string, hook func(string)) (*cni.Engine, *journal.Journal) {
	c.t.Helper()
	d := checking{driver{c.world}, nil}
	return c.startWith(path, hook, cni.Options{Delegate: &verbs{delegate: delegate{c.world}}, BootID: c.boot,
		Drivers: map[string]cni.Driver{cni.KindMacvlan: d, cni.KindBridge: d}, Files: c.open})
}

func (c *cabinet) engine() *cni.Engine {
	e, j := c.start(filepath.Join(c.t.TempDir(), "journal.db"), nil)
	c.t.Cleanup(func() { j.Close() })
	return e
}

func (c *cabinet) open(dataDir, network string) (cni.AddressFiles, error) {
	if !c.seen {
		return nil, errors.New("no such mount")
	}
	s, err := hostlocal.Dirs{c.dir}.Open(dataDir, network)
	return drawer{c.world, s}, err
}

// drawer is the real files, with points at which the process can stop.
type drawer struct {
	*world
	*hostlocal.Store
}

func (d drawer) Reserve(ctx context.Context, sets []ipam.RangeSet, o ipam.Owner, asked []netip.Prefix) ([]ipam.Address, error) {
	if err := d.point("reserve " + o.IfName); err != nil {
		return nil, err
	}
	got, err := d.Store.Reserve(ctx, sets, o, asked)
	return got, errors.Join(err, d.point("reserved "+o.IfName))
}

func (d drawer) Release(ctx context.Context, o ipam.Owner, known ...netip.Addr) error {
	if err := d.point("release " + o.IfName); err != nil {
		return err
	}
	return errors.Join(d.Store.Release(ctx, o, known...), d.point("released "+o.IfName))
}

// taken is what the files say, a line for each address.
func (c *cabinet) taken() (out string) {
	c.t.Helper()
	files, err := filepath.Glob(filepath.Join(c.dir, "cbr0", "203.*"))
	if err != nil {
		c.t.Fatal(err)
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			c.t.Fatal(err)
		}
		out += filepath.Base(f) + " " + strings.ReplaceAll(string(data), "\r\n", " ") + "\n"
	}
	return out
}

// put writes a file as the reference's host-local does.
func (c *cabinet) put(address, container string) {
	c.t.Helper()
	err := os.MkdirAll(filepath.Join(c.dir, "cbr0"), 0o755)
	if err == nil {
		err = os.WriteFile(filepath.Join(c.dir, "cbr0", address), []byte(container+"\r\neth0"), 0o600)
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

const filedWorld = "c1/eth0: bridge  203.0.113.2/29\nc1/net1: macvlan  192.0.2.2/29\n"

// TestInvariant8FiledBridgeRunsNoPlugin: intent, address, interface, completion;
// and backwards.
func TestInvariant8FiledBridgeRunsNoPlugin(t *testing.T) {
	c := newCabinet(t)
	e, j := c.start(filepath.Join(t.TempDir(), "journal.db"), func(p string) { _ = c.point(p) })
	defer j.Close()
	c.steps = nil
	res, err := e.Add(context.Background(), noPlugins(t))
	if err != nil {
		t.Fatal(err)
	}
	if len(res.IPs) != 1 || res.IPs[0].Gateway.String() != "203.0.113.1" || len(res.Routes) != 1 || res.Routes[0].GW.String() != "203.0.113.1" {
		t.Errorf("result is %+v", res)
	}
	if c.String() != filedWorld || c.taken() != "203.0.113.2 c1 eth0\n" {
		t.Errorf("the pod has\n%sand the files\n%s", c, c.taken())
	}
	if err := e.Check(context.Background(), noPlugins(t)); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := e.Del(context.Background(), noPlugins(t)); err != nil {
			t.Fatal(err)
		}
	}
	if c.String() != "" || c.taken() != "" {
		t.Errorf("left over:\n%s%s", c, c.taken())
	}
	var steps []string
	for _, s := range c.steps {
		if strings.HasSuffix(s, "eth0") || strings.HasPrefix(s, "after") {
			steps = append(steps, s)
		}
	}
	if d := cmp.Diff([]string{"prior eth0", "after intent", "reserve eth0", "reserved eth0", "attach eth0", "attached eth0", "after attached",
		"detach eth0", "detached eth0", "release eth0", "released eth0", "after detached"}, steps); d != "" {
		t.Error(d)
	}
}

// TestInvariant5FiledBridgeBesideItsPlugins: pods that executables attached, before
// and beside, keep their addresses, and theirs are in nobody's way.
func TestInvariant5FiledBridgeBesideItsPlugins(t *testing.T) {
	c := newCabinet(t)
	c.put("203.0.113.2", "older")
	c.put("203.0.113.4", "beside")
	e := c.engine()
	for i, want := range []string{"203.0.113.3", "203.0.113.5", "203.0.113.6"} {
		if _, err := e.Add(context.Background(), request(fmt.Sprint("c", i))); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(c.taken(), fmt.Sprintf("%s c%d eth0\n", want, i)) {
			t.Errorf("c%d should have %s:\n%s", i, want, c.taken())
		}
	}
	_, err := e.Add(context.Background(), request("c9"))
	if !errors.Is(err, ipam.ErrExhausted) || cni.Wire(err).Code != types.ErrTryAgainLater || !strings.Contains(err.Error(), "cbr0") {
		t.Errorf("error = %v, want that no address is free", err)
	}
	if strings.Contains(c.taken()+c.String(), "c9") {
		t.Errorf("left over:\n%s%s", c, c.taken())
	}
	if err := e.Del(context.Background(), request("c1")); err != nil {
		t.Fatal(err)
	}
	if want := "203.0.113.2 older eth0\n203.0.113.3 c0 eth0\n203.0.113.4 beside eth0\n203.0.113.6 c2 eth0\n"; c.taken() != want {
		t.Errorf("files are\n%swant\n%s", c.taken(), want)
	}
}

// TestInvariant3FiledBridgeCrashAnywhere stops the daemon at every step, and wants
// neither a link nor a file.
func TestInvariant3FiledBridgeCrashAnywhere(t *testing.T) {
	c := newCabinet(t)
	e, j := c.start(filepath.Join(t.TempDir(), "journal.db"), func(p string) { _ = c.point(p) })
	c.steps = nil
	if err := errors.Join(addDel(e), j.Close()); err != nil {
		t.Fatal(err)
	}
	for _, p := range c.steps {
		for _, rebooted := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s reboot=%v", p, rebooted), func(t *testing.T) {
				c := newCabinet(t)
				path := filepath.Join(t.TempDir(), "journal.db")
				e, j := c.start(path, func(at string) { _ = c.point(at) })
				c.crash = p
				func() {
					defer func() { _ = recover() }()
					_ = addDel(e)
					t.Errorf("point %q was never reached", p)
				}()
				j.Close()
				c.crash = ""
				if rebooted {
					c.boot, c.gone, c.links = "next", true, map[string]string{}
				}
				e, j = c.start(path, nil)
				defer j.Close()
				r := noPlugins(t)
				r.Run = nil
				if err := e.Redeem(context.Background(), r); err != nil {
					t.Fatal(err)
				}
				if c.String() != "" || c.taken() != "" {
					t.Errorf("left over:\n%s%s", c, c.taken())
				}
				c.gone = false
				if err := addDel(e); err != nil {
					t.Errorf("the pod cannot be added again: %v", err)
				}
			})
		}
	}
}

// TestInvariant2DelGoesByTheRecord and not by what would be done today.
func TestInvariant2DelGoesByTheRecord(t *testing.T) {
	c := newCabinet(t)
	c.seen = false
	e := c.engine()
	if _, err := e.Add(context.Background(), request("old")); err != nil {
		t.Fatal(err)
	}
	c.seen = true // an upgrade: from now on it is served in process
	if _, err := e.Add(context.Background(), request("new")); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(c.String(), "old/eth0: exec") || !strings.Contains(c.String(), "new/eth0: bridge") {
		t.Fatalf("the pods have\n%s", c)
	}
	c.seen = false // the next daemon has no mount
	without := request("new")
	without.Run = nil
	if err := e.Redeem(context.Background(), without); !cni.NeedsRuntime(err) {
		t.Errorf("error = %v, want that a plugin has to free the address", err)
	}
	for _, container := range []string{"old", "new"} {
		c.seen = container == "old"
		c.steps = nil
		if err := e.Del(context.Background(), request(container)); err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(strings.Join(c.steps, "\n"), "release eth0"); n != 0 {
			t.Errorf("%s: the files were touched", container)
		}
	}
	if c.String() != "" {
		t.Errorf("left over:\n%s", c)
	}
}

// TestUnknownContainerWithAnAddressIsItsPlugins: it is older than Tendril, or than
// the journal. One without an address has had its DEL.
func TestUnknownContainerWithAnAddressIsItsPlugins(t *testing.T) {
	c := newCabinet(t)
	c.put("203.0.113.2", "older")
	e := c.engine()
	without := request("older")
	without.Run = nil
	if err := e.Redeem(context.Background(), without); !cni.NeedsRuntime(err) {
		t.Errorf("error = %v, want that a runtime is needed", err)
	}
	for container, want := range map[string]string{"older": "detach eth0,detached eth0", "nobody": ""} {
		c.steps = nil
		if err := e.Del(context.Background(), request(container)); err != nil || strings.Join(c.steps, ",") != want {
			t.Errorf("%s: %v, %v; want %q", container, err, c.steps, want)
		}
	}
	other := request("nobody else")
	other.Run = nil
	if err := e.Redeem(context.Background(), other); err != nil {
		t.Errorf("one that has nothing waits for a runtime: %v", err)
	}
}

// TestRebootFreesWhatNoSandboxHasAnyMore: the files lie on a disk, and nobody else
// would ever remove them.
func TestRebootFreesWhatNoSandboxHasAnyMore(t *testing.T) {
	for name, fails := range map[string]error{"free": nil, "not now": errors.New("the disk says no")} {
		t.Run(name, func(t *testing.T) {
			c := newCabinet(t)
			c.put("203.0.113.6", "older")
			path := filepath.Join(t.TempDir(), "journal.db")
			e, j := c.start(path, nil)
			if _, err := e.Add(context.Background(), request("c1")); err != nil {
				t.Fatal(err)
			}
			j.Close()
			c.boot, c.gone, c.links, c.steps = "next", true, map[string]string{}, nil
			c.fail["release eth0"] = fails
			e, j = c.start(path, nil)
			defer j.Close()
			if left := strings.Contains(c.taken(), "c1"); left != (fails != nil) {
				t.Errorf("files are\n%s", c.taken())
			}
			delete(c.fail, "release eth0")
			if err := e.Del(context.Background(), noPlugins(t)); err != nil {
				t.Fatal(err)
			}
			if want := "203.0.113.6 older eth0\n"; c.taken() != want {
				t.Errorf("files are\n%swant\n%s", c.taken(), want)
			}
		})
	}
}

// TestGCFreesWhatTendrilHasAttached, and tells the plugins what they must leave.
func TestGCFreesWhatTendrilHasAttached(t *testing.T) {
	c := newCabinet(t)
	c.put("203.0.113.6", "older")
	e := c.engine()
	for _, id := range []string{"c1", "c2"} {
		if _, err := e.Add(context.Background(), request(id)); err != nil {
			t.Fatal(err)
		}
	}
	r := noPlugins(t)
	r.Config = []byte(`{"cni.dev/valid-attachments":[{"containerID":"c2","ifname":"eth0"}]}`)
	c.fail["detach eth0"] = errors.New("not now")
	if err := e.GC(context.Background(), r); err == nil {
		t.Error("no error of an interface that stays")
	}
	delete(c.fail, "detach eth0")
	if err := e.GC(context.Background(), r); err != nil {
		t.Fatal(err)
	}
	if want := "203.0.113.3 c2 eth0\n203.0.113.6 older eth0\n"; c.taken() != want {
		t.Errorf("files are\n%swant\n%s", c.taken(), want)
	}
	if d := cmp.Diff([]string{"gc cbr0 c1/eth0 c2/eth0", "gc cbr0 c2/eth0"}, e.Delegate.(*verbs).calls); d != "" {
		t.Error(d)
	}
}

// TestAuditKeepsTheAddressOfALostInterface while it makes it anew.
func TestAuditKeepsTheAddressOfALostInterface(t *testing.T) {
	c := newCabinet(t)
	e := c.engine()
	if _, err := e.Add(context.Background(), request("c1")); err != nil {
		t.Fatal(err)
	}
	delete(c.links, "c1/eth0")
	c.steps = nil
	u, _ := auditor(c.world, e)
	if _, err := u.Audit(context.Background(), c.list(), noRuntime); err != nil {
		t.Fatal(err)
	}
	if c.String() != filedWorld || c.taken() != "203.0.113.2 c1 eth0\n" || strings.Contains(strings.Join(c.steps, "\n"), "release") {
		t.Errorf("the pod has\n%sthe files\n%safter %v", c, c.taken(), c.steps)
	}
	if err := e.Check(context.Background(), noPlugins(t)); err != nil {
		t.Error(err)
	}
	if err := os.Remove(filepath.Join(c.dir, "cbr0", "203.0.113.2")); err != nil {
		t.Fatal(err)
	}
	if err := e.Check(context.Background(), noPlugins(t)); err == nil || !strings.Contains(err.Error(), "eth0") {
		t.Errorf("CHECK says %v of an address that is not there", err)
	}
}

// TestDefaultRouteOfAFiledBridge: the pod asks for a gateway in its default
// network, whose subnet is known before its addresses are.
func TestDefaultRouteOfAFiledBridge(t *testing.T) {
	for gateway, fine := range map[string]bool{"203.0.113.5": true, "198.51.100.1": false} {
		c := newCabinet(t)
		c.nads["kube-system/own"] = cni.Definition{Namespace: "kube-system", Name: "own", Config: c.defConf}
		p := c.pods["blue/p"]
		p.Annotations["v1.multus-cni.io/default-network"] = `[{"name":"own","namespace":"kube-system","default-route":["` + gateway + `"],"ips":["203.0.113.4"]}]`
		e := c.engine()
		e.DefaultRoutes = &table{world: c.world}
		res, err := e.Add(context.Background(), noPlugins(t))
		if (err == nil) != fine {
			t.Fatalf("%s: error %v", gateway, err)
		}
		if fine && (len(res.Routes) != 1 || res.Routes[0].GW.String() != gateway || c.taken() != "203.0.113.4 c1 eth0\n") {
			t.Errorf("result is %+v; files are\n%s", res, c.taken())
		}
		if !fine && (!strings.Contains(err.Error(), "203.0.113.0/29") || c.taken()+c.String() != "") {
			t.Errorf("error %v; left over:\n%s%s", err, c, c.taken())
		}
	}
}

// TestWhichDefaultBridgesAreServedInProcess. Everything else is executed as ever.
func TestWhichDefaultBridgesAreServedInProcess(t *testing.T) {
	const local = `"ipam":{"type":"host-local","subnet":"203.0.113.0/29"}`
	for conf, want := range map[string]bool{
		`{"type":"bridge",` + local + `}`: true,
		`{"plugins":[{"type":"bridge","isDefaultGateway":true,"hairpinMode":true,"mtu":1400,` + local + `}]}`:   true,
		`{"type":"bridge","vlan":7,"macspoofchk":true,"args":{"cni":{"ips":["203.0.113.4"]}},` + local + `}`:    true,
		`{"type":"bridge","ipMasq":false,"ipMasqBackend":"iptables",` + local + `}`:                             true,
		`{"type":"bridge","ipMasq":true,"ipMasqBackend":"nftables",` + local + `}`:                              true,
		`{"type":"bridge","capabilities":{"ips":true,"mac":true,"portMappings":false},` + local + `}`:           true,
		`{"type":"bridge","ipam":{"type":"host-local","dataDir":"/run/x","ranges":[[{"subnet":"fd00::/64"}]]}}`: true,
		`{"type":"bridge","ipMasq":true,` + local + `}`:                                                         false,
		`{"type":"bridge","ipMasq":true,"ipMasqBackend":"iptables",` + local + `}`:                              false,
		`{"type":"bridge","capabilities":{"portMappings":true},` + local + `}`:                                  false,
		`{"type":"bridge","capabilities":{"ipRanges":true},` + local + `}`:                                      false,
		`{"plugins":[{"type":"bridge",` + local + `},{"type":"portmap","capabilities":{"portMappings":true}}]}`: false,
		`{"plugins":[{"type":"bridge",` + local + `},{"type":"tuning"}]}`:                                       false,
		`{"type":"bridge"}`:                        false,
		`{"type":"bridge","ipam":{"type":"dhcp"}}`: false,
		`{"type":"bridge","ipam":{"type":"static","addresses":[{"address":"203.0.113.4/29"}]}}`:                    false,
		`{"type":"bridge","ipam":{"type":"host-local","subnet":"203.0.113.0/29","resolvConf":"/etc/resolv.conf"}}`: false,
		`{"type":"bridge","ipam":{"type":"host-local","subnet":"203.0.113.0/29","dataDir":"networks"}}`:            false,
		`{"type":"bridge","ipam":{"type":"host-local","subnet":"nonsense"}}`:                                       false,
		`{"type":"bridge","vlan":9999,` + local + `}`:                                                              false,
	} {
		n, err := netconf.ParseNetwork("x", []byte(conf), "x")
		if err != nil {
			t.Fatal(err)
		}
		kind := func(w cni.Wanted) string {
			t.Helper()
			w.ContainerID, w.IfName, w.Default = "c", "eth0", cni.Choice{Network: &n}
			got, err := cni.Plan(w)
			if err != nil {
				t.Errorf("%s: %v", conf, err)
				return ""
			}
			if a := got[0].Attachment; (a.Filed != "") != (a.Kind == cni.KindBridge) {
				t.Errorf("%s: kind %s with files in %q", conf, a.Kind, a.Filed)
			}
			return got[0].Attachment.Kind
		}
		if got := kind(cni.Wanted{Filed: true}); (got == cni.KindBridge) != want {
			t.Errorf("%s: kind %s", conf, got)
		}
		for name, w := range map[string]cni.Wanted{
			"files that are not seen": {},
			"an address asked for":    {Filed: true, CNIArgs: "IgnoreUnknown=1;IP=203.0.113.5"},
			"a MAC asked for":         {Filed: true, CNIArgs: "MAC=02:00:00:00:00:01;K8S_POD_NAME=p"},
		} {
			if got := kind(w); got != cni.KindExec {
				t.Errorf("%s, with %s: kind %s", conf, name, got)
			}
		}
		asks := cni.Wanted{Filed: true, RuntimeConfig: map[string]json.RawMessage{"portMappings": json.RawMessage(`[]`), "ips": json.RawMessage(`["203.0.113.4"]`)}}
		if got := kind(asks); (got == cni.KindBridge) != (want && !n.Plugins[0].Capabilities["ips"]) {
			t.Errorf("%s, with arguments of the runtime: kind %s", conf, got)
		}
	}
}
