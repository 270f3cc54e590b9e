package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/restmapper"
	"sigs.k8s.io/yaml"

	"github.com/tendril-cni/tendril/cmd/kubectl-tendril/fleet"
	"github.com/tendril-cni/tendril/cmd/kubectl-tendril/migrate"
	"github.com/tendril-cni/tendril/webhook/validate"
)

// fieldManager names this program to server-side apply.
const fieldManager = "kubectl-tendril"

// defaultSystem is the namespace of the manifests.
const defaultSystem = "tendril-system"

type migration struct {
	files, pools, networks []string
	prefix                 string
	apply                  bool
}

func (t *tool) migrate() *cobra.Command {
	var m migration
	cmd := &cobra.Command{
		Use: "migrate", Short: "Translate the objects of Multus, the SR-IOV operator and the SR-IOV device plugin", Args: cobra.NoArgs,
		Long: `migrate reads what other network stacks have in the cluster - SriovNetworkNodePolicy,
SriovNetwork, the device plugin's and Multus' ConfigMaps, whereabouts' IPPools - or
in files, and prints Tendril's objects for them. Notes on standard error say what
runs unchanged, what changes its meaning, and what is left out and why.

It changes nothing without --apply. It exits with 1 when something is left out;
nothing is applied then.`,
	}
	out := t.output(cmd)
	cmd.Flags().StringSliceVarP(&m.files, "filename", "f", nil, "read objects of these files, and not of the cluster; - is standard input")
	cmd.Flags().StringSliceVar(&m.pools, "device-plugin-config", nil, "read a config.json of the SR-IOV device plugin, too")
	cmd.Flags().StringSliceVar(&m.networks, "multus-config", nil, "read a configuration of Multus (daemon-config.json, 00-multus.conf), too")
	cmd.Flags().StringVar(&m.prefix, "resource-prefix", "openshift.io", "what the SR-IOV operator puts before resource names (its RESOURCE_PREFIX)")
	cmd.Flags().BoolVar(&m.apply, "apply", false, "apply the objects to the cluster")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := out.check(); err != nil {
			return err
		}
		if wrong := validation.IsDNS1123Subdomain(m.prefix); len(wrong) > 0 {
			return misused("--resource-prefix: value %q is not allowed; allowed: what stands before the slash of a resource name: %s", m.prefix, strings.Join(wrong, "; "))
		}
		sources, err := t.sources(cmd.Context(), m)
		if err != nil {
			return err
		}
		o := migrate.Options{Prefix: m.prefix, System: cmp.Or(t.system, defaultSystem)}
		if o.Pools, err = t.texts(m.pools); err != nil {
			return err
		}
		if o.Networks, err = t.texts(m.networks); err != nil {
			return err
		}
		r := migrate.Plan(sources, o)
		for _, n := range r.Notes {
			fmt.Fprintln(t.Streams.ErrOut, n)
		}
		if m.apply && r.Complete() {
			err = t.applyAll(cmd.Context(), r.Objects)
		} else {
			err = t.printObjects(out, r)
		}
		if err == nil && !r.Complete() {
			err = exit{Bad, nil}
		}
		return err
	}
	return cmd
}

// printObjects prints the objects as they would be applied, as YAML documents.
func (t *tool) printObjects(out *output, r migrate.Result) error {
	objects := []map[string]any{}
	for _, u := range r.Objects {
		objects = append(objects, u.Object)
	}
	if done, err := out.object("Migration", map[string]any{"items": objects, "notes": orEmpty(r.Notes)}); done {
		return err
	}
	for i, o := range objects {
		text, err := yaml.Marshal(o)
		if err != nil {
			return err
		}
		if i > 0 {
			fmt.Fprintln(t.Streams.Out, "---")
		}
		fmt.Fprint(t.Streams.Out, string(text))
	}
	return nil
}

// sources are the objects of the files, or else of the cluster.
func (t *tool) sources(ctx context.Context, m migration) ([]*unstructured.Unstructured, error) {
	var out []*unstructured.Unstructured
	if len(m.files)+len(m.pools)+len(m.networks) == 0 {
		return t.foreign(ctx)
	}
	objects, err := read(m.files, t.Streams.In)
	if err != nil {
		return nil, exit{Misused, err}
	}
	for _, o := range objects {
		u := &unstructured.Unstructured{}
		if err := json.Unmarshal(o.Raw, &u.Object); err != nil {
			return nil, exit{Misused, fmt.Errorf("read %s: %w", o.Source, err)}
		}
		if u.GetNamespace() == "" && o.Kind != validate.VFPolicyKind {
			u.SetNamespace(t.namespace())
		}
		out = append(out, u)
	}
	return out, nil
}

// texts reads configurations that are files.
func (t *tool) texts(files []string) ([]migrate.File, error) {
	var out []migrate.File
	for _, file := range files {
		text, err := contents(file, t.Streams.In)
		if err != nil {
			return nil, exit{Misused, err}
		}
		out = append(out, migrate.File{Name: filepath.Base(file), Text: string(text)})
	}
	return out, nil
}

// foreign are the objects of other stacks in the cluster. A kind that it does not
// know has none.
func (t *tool) foreign(ctx context.Context) ([]*unstructured.Unstructured, error) {
	f, err := t.fleet()
	if err != nil {
		return nil, err
	}
	var out []*unstructured.Unstructured
	for _, r := range migrate.Sources {
		list, err := f.Objects.Resource(r).List(ctx, metav1.ListOptions{})
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", r.Resource, err)
		}
		for i := range list.Items {
			out = append(out, &list.Items[i])
		}
	}
	maps, err := f.Client.CoreV1().ConfigMaps(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list ConfigMaps: %w", err)
	}
	for _, m := range maps.Items {
		data := map[string]any{}
		for k, v := range m.Data {
			data[k] = v
		}
		out = append(out, &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": m.Name, "namespace": m.Namespace}, "data": data,
		}})
	}
	return out, nil
}

// applyAll applies objects in order by server-side apply. What somebody else
// manages otherwise is a conflict, and not overwritten.
func (t *tool) applyAll(ctx context.Context, objects []*unstructured.Unstructured) error {
	f, err := t.fleet()
	if err != nil {
		return err
	}
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(f.Client.Discovery()))
	for _, u := range objects {
		if err := applyOne(ctx, f, mapper, u); err != nil {
			return fmt.Errorf("apply %s %s: %w", u.GetKind(), u.GetName(), err)
		}
		fmt.Fprintf(t.Streams.Out, "%s %s applied\n", u.GetKind(), u.GetName())
	}
	return nil
}

func applyOne(ctx context.Context, f *fleet.Fleet, mapper meta.RESTMapper, u *unstructured.Unstructured) error {
	gvk := u.GroupVersionKind()
	m, err := mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if err != nil {
		return err
	}
	options := metav1.ApplyOptions{FieldManager: fieldManager}
	if m.Scope.Name() == meta.RESTScopeNameNamespace {
		_, err = f.Objects.Resource(m.Resource).Namespace(u.GetNamespace()).Apply(ctx, u.GetName(), u, options)
	} else {
		_, err = f.Objects.Resource(m.Resource).Apply(ctx, u.GetName(), u, options)
	}
	return err
}
