package node

import (
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/deviceplugin"
	lab "github.com/tendril-cni/tendril/tests/lab/kube"
	"github.com/tendril-cni/tendril/webhook/kube"
	"github.com/tendril-cni/tendril/webhook/report"
	"github.com/tendril-cni/tendril/webhook/validate"
)

// TestFactsReachTheAPIServer: the daemon, with the rights of its manifest and its
// node's name in its token, tells what the node has in one PATCH; admission reads
// just that; what did not change is not written, and what others took away is.
func TestFactsReachTheAPIServer(t *testing.T) {
	// The tests of this package have a network namespace of their own.
	if err := netlink.LinkSetUp(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: "lo"}}); err != nil {
		t.Fatal(err)
	}
	api, err := lab.Start(t.Context(), lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := api.Close(); err != nil {
			t.Error(err)
		}
	})
	manifest, err := os.ReadFile(filepath.Join("..", "..", "..", "deployment", "manifests", "node.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := api.Apply(t.Context(), string(manifest)); err != nil {
		t.Fatal(err)
	}
	admin, err := api.RESTConfig(lab.Admin)
	if err != nil {
		t.Fatal(err)
	}
	client := kubernetes.NewForConfigOrDie(admin)
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "one", Annotations: map[string]string{"others": "x"}}}
	if _, err := client.CoreV1().Nodes().Create(t.Context(), node, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	patches := &atomic.Int32{}
	now := report.Node{Plugins: []string{"macvlan"}, Links: []string{"eth0", "eth1"}, Userspace: []string{}, Given: &report.Given{Default: 1, System: []string{"kube-system"}}}
	var trouble error
	f, err := newFacts(asDaemon(admin, patches), "one", func() (report.Node, error) { return now, trouble }, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	step := func(what string, writes int32) {
		t.Helper()
		if err := f.step(t.Context()); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if n := patches.Swap(0); n != writes {
			t.Errorf("%s: %d writes, want %d", what, n, writes)
		}
	}
	step("the first look", 1)
	seen, err := kube.Look(t.Context(), admin, validate.Facts{})
	if err != nil {
		t.Fatal(err)
	}
	if links, known := seen.Links(""); !known || !links["eth1"] || strings.Join(seen.Plugins, "") != "macvlan" || seen.Given("blue")[0] != 1 || seen.Given("kube-system")[0] != 0 {
		t.Errorf("admission sees %+v", seen)
	}
	step("nothing new", 0)
	now.Links = []string{"eth1", "eth0"}
	step("another order", 0)
	now.Userspace, now.Plugins = []string{"v.io/dpdk"}, []string{"macvlan", "sriov"}
	step("two facts changed", 1)
	taken := []byte(`{"metadata":{"annotations":{"` + report.LinksAnnotation + `":null}}}`)
	if _, err := client.CoreV1().Nodes().Patch(t.Context(), "one", types.MergePatchType, taken, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	for range factsReread - 1 {
		step("nothing new", 0)
	}
	step("the object is read again", 1)
	now, trouble = report.Node{Plugins: []string{"ipvlan"}}, errors.New("links cannot be listed")
	if err := f.step(t.Context()); err == nil || patches.Load() != 1 {
		t.Errorf("half a look: error %v, %d writes", err, patches.Load())
	}
	got, err := client.CoreV1().Nodes().Get(t.Context(), "one", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"others": "x", report.PluginsAnnotation: "ipvlan", report.LinksAnnotation: "eth0,eth1", report.UserspaceAnnotation: "v.io/dpdk",
		report.GivenAnnotation: `{"always":0,"default":1,"system":["kube-system"]}`}
	if diff := cmp.Diff(want, got.Annotations); diff != "" {
		t.Error(diff)
	}
}

// asDaemon is the service account of the manifest, on node one; it counts patches.
func asDaemon(config *rest.Config, patches *atomic.Int32) *rest.Config {
	config = rest.CopyConfig(config)
	config.Impersonate = rest.ImpersonationConfig{
		UserName: "system:serviceaccount:tendril-system:tendrild",
		Groups:   []string{"system:serviceaccounts", "system:serviceaccounts:tendril-system", "system:authenticated"},
		Extra:    map[string][]string{"authentication.kubernetes.io/node-name": {"one"}},
	}
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			if r.Method == http.MethodPatch {
				patches.Add(1)
			}
			return next.RoundTrip(r)
		})
	})
	return config
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestFactsOfTheNode: plugins are programs, links those that stay.
func TestFactsOfTheNode(t *testing.T) {
	d := onNode(t, netconf.Node{}, map[string]string{"LICENSE": "x"})
	d.CNIBinDir = d.CNIConfDir
	for _, name := range []string{"ptp", "tendril"} {
		if err := os.WriteFile(filepath.Join(d.CNIBinDir, name), []byte("#!"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("ptp", filepath.Join(d.CNIBinDir, "linked")); err != nil {
		t.Fatal(err)
	}
	got, err := d.plugins()
	if err != nil {
		t.Fatal(err)
	}
	said := "," + report.Node{Plugins: got}.Annotations()[report.PluginsAnnotation] + ","
	for name, want := range map[string]bool{"sriov": true, "macvlan": true, "ptp": true, "linked": true, "LICENSE": false, "tendril": false} {
		if strings.Contains(said, ","+name+",") != want {
			t.Errorf("plugins are %s: %s there is not %v", said, name, want)
		}
	}
	links := []netlink.Link{
		&netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: "lo"}},
		&netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: "ens1", AltNames: []string{"enp1s0"}}},
		&netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: "ens1v0"}},
		&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "veth1"}},
		&netlink.Vlan{LinkAttrs: netlink.LinkAttrs{Name: "ens1.5"}},
	}
	stay := lasting(links, func(name string) bool { return name == "ens1v0" })
	if diff := cmp.Diff([]string{"ens1", "enp1s0", "ens1.5"}, stay); diff != "" {
		t.Error(diff)
	}
	pools := []deviceplugin.Pool{
		{Resource: deviceplugin.Resource{Prefix: "v.io", Name: "kernel"}, Devices: []deviceplugin.Device{{Driver: "igbvf"}}},
		{Resource: deviceplugin.Resource{Prefix: "v.io", Name: "dpdk"}, Devices: []deviceplugin.Device{{Driver: "igbvf"}, {Driver: "vfio-pci"}}},
	}
	if diff := cmp.Diff([]string{"v.io/dpdk"}, userspace(pools)); diff != "" {
		t.Error(diff)
	}
	want := &report.Given{Always: 1, Default: 2, System: []string{"kube-system"}}
	if diff := cmp.Diff(want, given(netconf.Node{Delegates: make([]netconf.Network, 2), DefaultNetworks: []string{"a", "b"}, SystemNamespaces: []string{"kube-system"}})); diff != "" {
		t.Error(diff)
	}
}
