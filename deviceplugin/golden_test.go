package deviceplugin_test

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/tendril-cni/tendril/cni/refusal"
	"github.com/tendril-cni/tendril/deviceplugin"
	"github.com/tendril-cni/tendril/vf"
)

var update = flag.Bool("update", false, "rewrite the expected parts of testdata")

// world is an inventory as the tests write it, one device a line:
//
//	pf <addr> ids=8086:10c9 netdev=.. alt=..,.. driver=.. numa=.. link=.. vfs=.. ddp=.. owned=<why>
//	vf <addr> pf=<addr> n=<index> ids=.. driver=.. numa=.. group=.. link=.. unfit=<why> holder=<who>
//	aux <name> pf=<addr> n=<sfnum> driver=.. numa=.. link=..
//	node /dev/vhost-net
//	cdi on
//
// Every device may have rdma=..,.. nodes=uverbs0,.. uio=.. vdpa=name,driver,node
// and noiommu=y; functions also accel=y acpi=.. pkey=... In the reasons why, _
// stands for a blank.
type world struct {
	snap vf.Snapshot
	host deviceplugin.Host
}

func parseWorld(t *testing.T, text string) world {
	t.Helper()
	w := world{}
	owned, unfit, holder := map[vf.Addr]string{}, map[vf.Addr]string{}, map[string]string{}
	w.host.Owns = func(p vf.PF) string { return owned[p.Addr] }
	w.host.Unfit = func(a vf.Addr) string { return unfit[a] }
	w.host.Holder = func(id, resource string) string {
		if as := holder[id]; !strings.HasSuffix(as, resource) {
			return as
		}
		return ""
	}
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		value := attributes(words[2:])
		switch words[0] {
		case "node":
			w.host.VhostNet = w.host.VhostNet || words[1] == "/dev/vhost-net"
			w.host.Tun = w.host.Tun || words[1] == "/dev/net/tun"
			w.host.RDMACM = w.host.RDMACM || words[1] == "/dev/infiniband/rdma_cm"
		case "cdi":
			w.host.CDI = true
		case "pf":
			pf := worldPF(t, words[1], value)
			owned[pf.Addr] = value["owned"]
			w.snap.PFs = append(w.snap.PFs, pf)
		case "vf":
			v := worldVF(t, words[1], value)
			unfit[v.Addr], holder[words[1]] = value["unfit"], value["holder"]
			w.snap.VFs = append(w.snap.VFs, v)
		case "aux":
			w.snap.Aux = append(w.snap.Aux, vf.Aux{
				Name: words[1], PF: vf.MustAddr(value["pf"]), Index: number(t, value["n"]), Driver: value["driver"],
				NUMANode: number(t, value["numa"]), LinkType: value["link"],
				RDMA: list(value["rdma"]), Userspace: userspace(value),
			})
		default:
			t.Fatalf("inventory line %q", line)
		}
	}
	return w
}

func attributes(words []string) map[string]string {
	value := map[string]string{"numa": "-1", "group": "-1", "vfs": "0", "n": "0"}
	for _, word := range words {
		k, v, _ := strings.Cut(word, "=")
		if k == "owned" || k == "unfit" || k == "holder" || k == "ddp" {
			v = strings.ReplaceAll(v, "_", " ")
		}
		value[k] = v
	}
	return value
}

func worldPF(t *testing.T, addr string, value map[string]string) vf.PF {
	t.Helper()
	vendor, device, _ := strings.Cut(value["ids"], ":")
	return vf.PF{
		Addr: vf.MustAddr(addr), Netdev: value["netdev"], AltNames: list(value["alt"]), Vendor: vendor, Device: device,
		Driver: value["driver"], NUMANode: number(t, value["numa"]), IOMMUGroup: number(t, value["group"]),
		LinkType: value["link"], NumVFs: number(t, value["vfs"]), Accelerator: value["accel"] != "",
		ACPIIndex: value["acpi"], DDPProfile: value["ddp"], PKey: value["pkey"],
		RDMA: list(value["rdma"]), Userspace: userspace(value),
	}
}

func worldVF(t *testing.T, addr string, value map[string]string) vf.VF {
	t.Helper()
	vendor, device, _ := strings.Cut(value["ids"], ":")
	return vf.VF{
		Addr: vf.MustAddr(addr), PF: vf.MustAddr(value["pf"]), Index: number(t, value["n"]), Vendor: vendor, Device: device,
		Driver: value["driver"], NUMANode: number(t, value["numa"]), IOMMUGroup: number(t, value["group"]),
		LinkType: value["link"], Accelerator: value["accel"] != "",
		ACPIIndex: value["acpi"], PKey: value["pkey"], RDMA: list(value["rdma"]), Userspace: userspace(value),
	}
}

func userspace(value map[string]string) vf.Userspace {
	u := vf.Userspace{RDMA: list(value["nodes"]), UIO: value["uio"], NoIOMMU: value["noiommu"] != ""}
	if v := list(value["vdpa"]); v != nil {
		u.VDPA = vf.VDPA{Name: v[0], Driver: v[1], Node: v[2]}
	}
	return u
}

func list(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

func number(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// printPools writes pools the way testdata has them.
func printPools(pools []deviceplugin.Pool) string {
	var b strings.Builder
	for i := range pools {
		p := &pools[i]
		fmt.Fprintf(&b, "%s: %d\n", p.Name(), len(p.Devices))
		for _, d := range p.Devices {
			fmt.Fprintf(&b, "  %s index=%d driver=%s numa=%d group=%d", d.ID, d.Index, d.Driver, d.NUMANode, d.IOMMUGroup)
			if d.VhostNet {
				b.WriteString(" vhost-net")
			}
			if d.WithRDMA {
				fmt.Fprintf(&b, " rdma=%s", strings.Join(d.RDMA, ","))
			}
			if d.VDPA != "" {
				fmt.Fprintf(&b, " vdpa=%s", d.VDPA)
			}
			if !d.Healthy() {
				fmt.Fprintf(&b, " unhealthy: %s", d.Cause)
			}
			b.WriteString("\n")
		}
		for _, id := range slices.Sorted(maps.Keys(p.Overlaps)) {
			fmt.Fprintf(&b, "  %s taken by %s\n", id, p.Overlaps[id])
		}
	}
	return b.String()
}

// printResponses runs lines "<resource> <id>,<id>" and writes what came back.
func printResponses(pools []deviceplugin.Pool, requests string) string {
	var b strings.Builder
	for line := range strings.Lines(requests) {
		name, ids, _ := strings.Cut(strings.TrimSpace(line), " ")
		fmt.Fprintf(&b, "%s %s\n", name, ids)
		for i := range pools {
			if pools[i].Name() != name {
				continue
			}
			r, err := pools[i].Response(strings.FieldsFunc(ids, func(r rune) bool { return r == ',' }))
			if err != nil {
				fmt.Fprintf(&b, "  refused: %v\n", err)
				continue
			}
			for _, k := range slices.Sorted(maps.Keys(r.Env)) {
				fmt.Fprintf(&b, "  %s=%s\n", k, r.Env[k])
			}
			for _, n := range r.Nodes {
				fmt.Fprintf(&b, "  node %s at %s %s\n", n.Host, n.Container, n.Access)
			}
			for _, name := range r.CDI {
				fmt.Fprintf(&b, "  cdi %s\n", name)
			}
		}
	}
	return b.String()
}

// TestInvariant7NoPhysicalFunctionUnasked: without an answer about the host, no
// physical function is offered.
func TestInvariant7NoPhysicalFunctionUnasked(t *testing.T) {
	cfg := config(t, `{"resourceList":[{"resourceName":"all","selectors":{}}]}`)
	w := parseWorld(t, "pf 0000:02:00.2 netdev=eno3 driver=i40e")
	if got := printPools(deviceplugin.Pools(cfg, &w.snap, deviceplugin.Host{})); got != "intel.com/all: 0\n" {
		t.Error(got)
	}
	if got := printPools(deviceplugin.Pools(cfg, &w.snap, w.host)); !strings.HasPrefix(got, "intel.com/all: 1\n") {
		t.Error(got)
	}
}

// TestGolden: configuration and inventory give exactly these pools, and these
// requests exactly these answers.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no testdata", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			part := map[string]string{}
			for _, f := range archive.Files {
				part[f.Name] = string(f.Data)
			}
			got := map[string]string{}
			cfg, err := deviceplugin.Parse(strings.NewReader(part["config.json"]), "config.json", "intel.com")
			if err != nil {
				t.Fatalf("configuration: %v", err)
			}
			w := parseWorld(t, part["inventory"])
			pools := deviceplugin.Pools(cfg, &w.snap, w.host)
			got["pools"] = printPools(pools)
			if _, asked := part["allocate"]; asked {
				got["responses"] = printResponses(pools, part["allocate"])
			}
			for i, f := range archive.Files {
				if text, ok := got[f.Name]; ok {
					if diff := cmp.Diff(string(f.Data), text); diff != "" && !*update {
						t.Errorf("%s (-want +got):\n%s", f.Name, diff)
					}
					archive.Files[i].Data = []byte(text)
				}
			}
			if *update {
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// TestRefusals: a bad configuration is refused as a whole, and the message names
// file, resource, field, value and what is allowed.
func TestRefusals(t *testing.T) {
	resource := func(rest string) string {
		return `{"resourceList":[{"resourceName":"a","selectors":{}},{"resourceName":"b",` + rest + `}]}`
	}
	const b, at = `file "config.json" resource "intel.com/b": field `, "resourceList[1]."
	for name, tc := range map[string]struct{ config, want string }{
		"empty file":       {"", `file "config.json": field line 1 column 1: value "the end of the file" is not allowed; allowed: JSON (the text ends early)`},
		"cut off":          {"{\n \"resourceList\": [", `file "config.json": field line 2 column 19: value "the end of the file" is not allowed; allowed: JSON (the text ends early)`},
		"bad JSON":         {"{\n  \"resourceList\" []}", `file "config.json": field line 2 column 18: value "[]}" is not allowed; allowed: JSON (invalid character '[' after object key)`},
		"two values":       {`{"resourceList":[]} x`, `file "config.json": field line 1 column 21: value "x" is not allowed; allowed: JSON (more text after the end of the object)`},
		"not an object":    {`[]`, `file "config.json": value [] is not allowed; allowed: an object`},
		"unknown top key":  {`{"resources":[]}`, `file "config.json": field resources: value [] is not allowed; allowed: the keys resourceList`},
		"list of numbers":  {`{"resourceList":[1]}`, `file "config.json": field resourceList[0]: value 1 is not allowed; allowed: an object`},
		"no name":          {`{"resourceList":[{"selectors":{}}]}`, `file "config.json": field resourceList[0].resourceName: value "" is not allowed; allowed: 1 to 63 letters, digits, - and _, a letter or digit at both ends`},
		"bad name":         {`{"resourceList":[{"resourceName":"b.c","selectors":{}}]}`, `file "config.json" resource "intel.com/b.c": field resourceList[0].resourceName: value "b.c" is not allowed; allowed: 1 to 63 letters, digits, - and _, a letter or digit at both ends`},
		"bad prefix":       {resource(`"resourcePrefix":"Intel.com","selectors":{}`), `file "config.json" resource "Intel.com/b": field resourceList[1].resourcePrefix: value "Intel.com" is not allowed; allowed: a lower-case DNS name of at most 244 characters, not beginning with requests.`},
		"kubelet's prefix": {resource(`"resourcePrefix":"net.kubernetes.io","selectors":{}`), `file "config.json" resource "net.kubernetes.io/b": field resourceList[1].resourcePrefix: value "net.kubernetes.io" is not allowed; allowed: a name outside kubernetes.io, which the kubelet keeps for itself`},
		"name twice":       {`{"resourceList":[{"resourceName":"a","selectors":{}},{"resourceName":"a","selectors":{}}]}`, `file "config.json" resource "intel.com/a": field resourceList[1].resourceName: value "intel.com/a" is not allowed; allowed: a name used once; resourceList[0] has it already`},
		"unknown key":      {resource(`"selector":{}`), b + at + `selector: value {} is not allowed; allowed: the keys additionalInfo, allocationPolicy, deviceType, excludeTopology, resourceName, resourcePrefix, selectors`},
		"key twice":        {resource(`"selectors":{},"Selectors":{}`), b + at + `selectors: value {} is not allowed; allowed: every key once`},
		"name no string":   {`{"resourceList":[{"resourceName":7}]}`, `file "config.json": field resourceList[0].resourceName: value 7 is not allowed; allowed: a string`},
		"unknown type":     {resource(`"deviceType":"netdevice","selectors":{}`), b + at + `deviceType: value "netdevice" is not allowed; allowed: netDevice, accelerator, auxNetDevice`},
		"no selectors":     {resource(`"deviceType":"netDevice"`), b + at + `selectors: value "nothing" is not allowed; allowed: an object or a list of at least one object; {} selects every device`},
		"null selectors":   {resource(`"selectors":null`), b + at + `selectors: value "nothing" is not allowed; allowed: an object or a list of at least one object; {} selects every device`},
		"empty selectors":  {resource(`"selectors":[]`), b + at + `selectors: value "nothing" is not allowed; allowed: an object or a list of at least one object; {} selects every device`},
		"selectors text":   {resource(`"selectors":"x"`), b + at + `selectors: value "x" is not allowed; allowed: an object or a list of objects`},
		"topology text":    {resource(`"selectors":{},"excludeTopology":"true"`), b + at + `excludeTopology: value "true" is not allowed; allowed: true or false`},
		"pfName":           {resource(`"selectors":{"pfName":["ens1"]}`), b + at + `selectors.pfName: value ["ens1"] is not allowed; allowed: the keys acpiIndexes, ddpProfiles, devices, drivers, isRdma, linkTypes, needVhostNet, pKeys, pciAddresses, pfNames, rootDevices, vdpaType, vendors`},
		"vendor no list":   {resource(`"selectors":{"vendors":"8086"}`), b + at + `selectors.vendors: value "8086" is not allowed; allowed: a list`},
		"vendor number":    {resource(`"selectors":[{},{"vendors":[8086]}]`), b + at + `selectors[1].vendors[0]: value 8086 is not allowed; allowed: a string`},
		"vendor with 0x":   {resource(`"selectors":{"vendors":["8086","0x15b3"]}`), b + at + `selectors.vendors[1]: value "0x15b3" is not allowed; allowed: a PCI id of four hexadecimal digits, without 0x`},
		"empty driver":     {resource(`"selectors":{"drivers":[""]}`), b + at + `selectors.drivers[0]: value "" is not allowed; allowed: a name`},
		"short address":    {resource(`"selectors":{"pciAddresses":["03:02.0"]}`), b + at + `selectors.pciAddresses[0]: value "03:02.0" is not allowed; allowed: a PCI address dddd:bb:dd.f, hexadecimal`},
		"range":            {resource(`"selectors":{"pfNames":["eth0#0,x"]}`), b + at + `selectors.pfNames[0]: value "eth0#0,x" is not allowed; allowed: name, or name#i,j-k with VF numbers 0..65535 and j not above k`},
		"root device":      {resource(`"selectors":{"rootDevices":["eth0#0"]}`), b + at + `selectors.rootDevices[0]: value "eth0" is not allowed; allowed: a PCI address dddd:bb:dd.f, hexadecimal`},
		"link type":        {resource(`"selectors":{"linkTypes":["ethernet"]}`), b + at + `selectors.linkTypes[0]: value "ethernet" is not allowed; allowed: ether, infiniband`},
		"rdma text":        {resource(`"selectors":{"isRdma":"true"}`), b + at + `selectors.isRdma: value "true" is not allowed; allowed: true or false`},
		"rdma and vdpa":    {resource(`"selectors":{"isRdma":true,"vdpaType":"vhost"}`), b + at + `selectors.vdpaType: value "vhost" is not allowed; allowed: leaving it out beside isRdma`},
		"vdpa type":        {resource(`"selectors":{"vdpaType":"vduse"}`), b + at + `selectors.vdpaType: value "vduse" is not allowed; allowed: vhost, virtio`},
		"pkey form":        {resource(`"selectors":{"linkTypes":["infiniband"],"pKeys":["0x1ffff"]}`), b + at + `selectors.pKeys[0]: value "0x1ffff" is not allowed; allowed: a partition key of up to four hexadecimal digits, such as 0x7fff`},
		"pkey on ether":    {resource(`"selectors":{"linkTypes":["ether"],"pKeys":["0x7fff"]}`), b + at + `selectors.linkTypes: value [ether] is not allowed; allowed: ["infiniband"], which pKeys needs`},
		"empty acpi index": {resource(`"selectors":{"acpiIndexes":[""]}`), b + at + `selectors.acpiIndexes[0]: value "" is not allowed; allowed: a name`},
		"aux types":        {resource(`"selectors":{"auxTypes":["sf"]}`), b + at + `selectors.auxTypes: value ["sf"] is not allowed; allowed: leaving it out with deviceType netDevice`},
		"aux without type": {resource(`"deviceType":"auxNetDevice","selectors":{"pfNames":["eth0"]}`), b + at + `selectors.auxTypes: value "nothing" is not allowed; allowed: ["sf"]; deviceType auxNetDevice needs it`},
		"aux other type":   {resource(`"deviceType":"auxNetDevice","selectors":{"auxTypes":["eth"]}`), b + at + `selectors.auxTypes[0]: value "eth" is not allowed; allowed: sf`},
		"aux by address":   {resource(`"deviceType":"auxNetDevice","selectors":{"auxTypes":["sf"],"pciAddresses":["0000:01:00.0"]}`), b + at + `selectors.pciAddresses: value ["0000:01:00.0"] is not allowed; allowed: leaving it out with deviceType auxNetDevice`},
		"aux range":        {resource(`"deviceType":"auxNetDevice","selectors":{"auxTypes":["sf"],"pfNames":["eth0#x"]}`), b + at + `selectors.pfNames[0]: value "eth0#x" is not allowed; allowed: name, or name#i,j-k with subfunction numbers (sfnum) and j not above k`},
		"aux info":         {resource(`"deviceType":"auxNetDevice","selectors":{"auxTypes":["sf"]},"additionalInfo":{"sf4":{}}`), b + at + `additionalInfo.sf4: value "sf4" is not allowed; allowed: *, the name of a device (mlx5_core.sf.4), or the PCI address of its parent, dddd:bb:dd.f`},
		"accelerator PF":   {resource(`"selectors":{"pfNames":["eth0"]},"deviceType":"accelerator"`), b + at + `selectors.pfNames: value ["eth0"] is not allowed; allowed: leaving it out with deviceType accelerator`},
		"policy":           {resource(`"selectors":{},"allocationPolicy":"random"`), b + at + `allocationPolicy: value "random" is not allowed; allowed: pack, spread`},
		"info no object":   {resource(`"selectors":{},"additionalInfo":{"*":"x"}`), b + at + `additionalInfo.*: value "x" is not allowed; allowed: an object`},
		"info no device":   {resource(`"selectors":{},"additionalInfo":{"eth0":{}}`), b + at + `additionalInfo.eth0: value "eth0" is not allowed; allowed: * or the PCI address of a device, dddd:bb:dd.f`},
		"info no string":   {resource(`"selectors":{},"additionalInfo":{"*":{"k":1}}`), b + at + `additionalInfo.*.k: value 1 is not allowed; allowed: a string`},
		"info twice":       {resource(`"selectors":{},"additionalInfo":{"*":{"k":"1","k":"2"}}`), b + at + `additionalInfo.*.k: value "2" is not allowed; allowed: every key once`},
		"selector object":  {resource(`"selectors":{},"SelectorObj":[]`), b + at + `SelectorObj: value [] is not allowed; allowed: null`},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, err := deviceplugin.Parse(strings.NewReader(tc.config), "config.json", "intel.com")
			if err == nil {
				t.Fatalf("accepted as %+v", cfg)
			}
			var r *refusal.Refusal
			if !errors.As(err, &r) {
				t.Fatalf("%T is no refusal", err)
			}
			if diff := cmp.Diff(tc.want, err.Error()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestNoDefaultPrefix: without any prefix there is no resource name.
func TestNoDefaultPrefix(t *testing.T) {
	const config = `{"resourceList":[{"resourceName":"a","selectors":{}}]}`
	if cfg, err := deviceplugin.Parse(strings.NewReader(config), "config.json", ""); err == nil {
		t.Errorf("accepted as %+v", cfg)
	}
}

// TestEmptyTextIsAbsent: the SR-IOV network device plugin takes the empty text for the
// default, and templates write it.
func TestEmptyTextIsAbsent(t *testing.T) {
	const text = `{"resourceList":[{"resourceName":"b","resourcePrefix":"","deviceType":"","selectors":{"vdpaType":""}}]}`
	cfg, err := deviceplugin.Parse(strings.NewReader(text), "config.json", "intel.com")
	if err != nil {
		t.Fatal(err)
	}
	if r := cfg.Resources[0]; r.String() != "intel.com/b" || r.Type != deviceplugin.NetDevice {
		t.Errorf("%+v", r)
	}
}

// TestEmptyList: no resources is a configuration, however it is written.
func TestEmptyList(t *testing.T) {
	for _, text := range []string{`{"resourceList":[]}`, `{"resourceList":null}`, `{}`} {
		cfg, err := deviceplugin.Parse(strings.NewReader(text), "config.json", "intel.com")
		if err != nil || len(cfg.Resources) != 0 {
			t.Errorf("%s: %+v, %v", text, cfg, err)
		}
	}
}
