package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/tendril-cni/tendril/cmd/kubectl-tendril/fleet"
	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/ipam"
	"github.com/tendril-cni/tendril/ipam/kube"
	"github.com/tendril-cni/tendril/ipam/whereabouts"
)

// whereabouts moves what whereabouts has in the cluster to Tendril, and back.
func (t *tool) whereabouts() *cobra.Command {
	cmd := &cobra.Command{
		Use: "whereabouts", Short: "Take over the addresses that whereabouts gave, or give them back to it", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_ = cmd.Help()
			return exit{Misused, nil}
		},
	}
	var namespace string
	cmd.PersistentFlags().StringVar(&namespace, "objects", whereabouts.DefaultNamespace, "namespace in which whereabouts keeps its objects")
	cmd.AddCommand(t.importOld(&namespace), t.exportOld(&namespace))
	return cmd
}

func (t *tool) importOld(namespace *string) *cobra.Command {
	var apply bool
	cmd := &cobra.Command{
		Use: "import", Short: "Keep the addresses of pods that whereabouts gave them from everybody else, as long as the pods are there", Args: cobra.NoArgs,
		Long: `import makes every allocation of whereabouts' pools, whose pod exists, that pod's own
in Tendril's address blocks. Do it before whereabouts' objects are deleted or
--whereabouts=off is set: until then Tendril sees them itself. Without --apply
nothing is written. It exits with 1 when an address is somebody else's already.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := t.fleet()
			if err != nil {
				return err
			}
			return t.importAddresses(cmd.Context(), f, *namespace, apply)
		},
	}
	cmd.Flags().BoolVar(&apply, "apply", false, "write; without it only what would be done is told")
	return cmd
}

func (t *tool) exportOld(namespace *string) *cobra.Command {
	return &cobra.Command{
		Use: "export", Short: "Print the pools and reservations that whereabouts would have for the pods that run now", Args: cobra.NoArgs,
		Long: `export prints objects for kubectl apply, so that whereabouts can take over again
while pods of Tendril run. It goes by the network-status of the pods.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := t.fleet()
			if err != nil {
				return err
			}
			return exportAddresses(cmd.Context(), f, *namespace, t.Streams.Out)
		},
	}
}

// importAddresses makes the addresses of whereabouts' live pods the pods' own.
func (t *tool) importAddresses(ctx context.Context, f *fleet.Fleet, namespace string, apply bool) error {
	old, err := whereabouts.NewReservations(f.Config, namespace, "")
	if err != nil {
		return err
	}
	pools, err := old.Importable(ctx)
	if err != nil {
		return err
	}
	blocks, err := kube.NewBlocks(f.Config)
	if err != nil {
		return err
	}
	uid := func(ctx context.Context, ref string) (string, error) {
		namespace, name, _ := strings.Cut(ref, "/")
		pod, err := f.Client.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return "", nil
		}
		if err != nil {
			return "", fmt.Errorf("read pod %s: %w", ref, err)
		}
		return string(pod.UID), nil
	}
	found, err := whereabouts.Import(ctx, blocks, uid, pools, apply)
	if len(found) == 0 && err == nil {
		t.warn("whereabouts has given no address in namespace %s", namespace)
	}
	for _, one := range found {
		word := string(one.State)
		if one.State == whereabouts.Imported && !apply {
			word = "to be imported"
		}
		if one.State == whereabouts.Taken {
			word += " by " + one.By
			err = cmp.Or(err, error(exit{Bad, nil}))
		}
		fmt.Fprintf(t.Streams.Out, "%-15s %s\n", word, one.Address)
	}
	return err
}

// exportAddresses prints, as a list of objects for kubectl apply, the pools and
// reservations that whereabouts would have for the pods that run now.
func exportAddresses(ctx context.Context, f *fleet.Fleet, namespace string, out io.Writer) error {
	networks, ranges, err := sharedNetworks(ctx, f)
	if err != nil {
		return err
	}
	var all []whereabouts.Address
	for next := ""; ; {
		page, err := f.Client.CoreV1().Pods("").List(ctx, metav1.ListOptions{Limit: 500, Continue: next})
		if err != nil {
			return fmt.Errorf("list pods: %w", err)
		}
		for i := range page.Items {
			all = append(all, addressesOf(&page.Items[i], networks)...)
		}
		if next = page.Continue; next == "" {
			break
		}
	}
	pools, left := whereabouts.Export(all, ranges)
	items := []any{}
	for _, p := range pools {
		p.Metadata.Namespace = namespace
		items = append(items, object("IPPool", p.Metadata.Name, namespace, p.Spec))
	}
	for _, a := range all {
		items = append(items, object("OverlappingRangeIPReservation", whereabouts.ReservationName(a.Space, a.Addr), namespace, map[string]any{"podref": a.PodRef, "ifname": a.IfName}))
	}
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	if err := enc.Encode(map[string]any{"apiVersion": "v1", "kind": "List", "items": items}); err != nil {
		return err
	}
	if len(left) > 0 {
		return fmt.Errorf("%d addresses lie in no range of whereabouts, the first is %s", len(left), left[0])
	}
	return nil
}

func object(kind, name, namespace string, spec any) any {
	return map[string]any{"apiVersion": "whereabouts.cni.cncf.io/v1alpha1", "kind": kind, "metadata": map[string]string{"name": name, "namespace": namespace}, "spec": spec}
}

// sharedNetworks are the definitions with ipam of whereabouts, by "namespace/name",
// and the ranges of each space.
func sharedNetworks(ctx context.Context, f *fleet.Fleet) (map[string]*ipam.Cluster, map[string][]netip.Prefix, error) {
	list, err := f.Objects.Resource(schema.GroupVersionResource{Group: "k8s.cni.cncf.io", Version: "v1", Resource: "network-attachment-definitions"}).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, nil, fmt.Errorf("list definitions: %w", err)
	}
	networks, ranges := map[string]*ipam.Cluster{}, map[string][]netip.Prefix{}
	for _, u := range list.Items {
		c := sharedAddresses(&u)
		if c == nil {
			continue
		}
		networks[u.GetNamespace()+"/"+u.GetName()] = c
		for _, set := range c.Sets {
			for _, r := range set {
				ranges[c.Space] = append(ranges[c.Space], r.Subnet)
			}
		}
	}
	return networks, ranges, nil
}

// sharedAddresses is what whereabouts hands out in a network, nil for nothing.
func sharedAddresses(u *unstructured.Unstructured) *ipam.Cluster {
	text, _, _ := unstructured.NestedString(u.Object, "spec", "config")
	n, err := netconf.ParseNetwork(u.GetName(), []byte(text), u.GetName())
	if err != nil {
		return nil
	}
	for _, p := range n.Plugins {
		raw, kind, err := netconf.ParseIPAM(p)
		if err != nil || kind != ipam.TypeWhereabouts {
			continue
		}
		if c, err := ipam.Parse(raw); err == nil {
			return c.Cluster
		}
	}
	return nil
}

// addressesOf are a pod's addresses in those networks, as its network-status tells.
func addressesOf(pod *corev1.Pod, networks map[string]*ipam.Cluster) (out []whereabouts.Address) {
	var status []struct {
		Name, Interface string
		IPs             []string
		Default         bool
	}
	if json.Unmarshal([]byte(pod.Annotations["k8s.v1.cni.cncf.io/network-status"]), &status) != nil {
		return nil
	}
	for _, s := range status {
		c := networks[s.Name]
		if c == nil || s.Default {
			continue
		}
		for _, text := range s.IPs {
			a, err := netip.ParseAddr(text)
			if err != nil || handedOut(c, a) == 0 {
				continue
			}
			out = append(out, whereabouts.Address{Space: c.Space, Addr: a, Allocation: whereabouts.Allocation{
				// whereabouts frees by container; this one it never hears of, and the
				// reconciler goes by the pod.
				ContainerID: string(pod.UID), PodRef: pod.Namespace + "/" + pod.Name, IfName: s.Interface,
			}})
		}
	}
	return out
}

// handedOut is the prefix length of the range that a is from, 0 for none.
func handedOut(c *ipam.Cluster, a netip.Addr) int {
	for _, set := range c.Sets {
		if bits := set.Bits(a); bits != 0 {
			return bits
		}
	}
	return 0
}
