package chart

import (
	"fmt"
	"path/filepath"
	"strings"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/releaseutil"
)

// Dir is the chart below the repository.
const Dir = "deployment/chart/tendril"

// Release is what Helm's command line says of an installation.
type Release struct {
	// Namespace is the release's; tendril-system when empty.
	Namespace string
	// Values go over those of the chart.
	Values map[string]any
	// APIs are group/version/Kind that the cluster knows beside Kubernetes' own.
	APIs []string
}

// Render returns the objects of the release as YAML documents, in the order in
// which Helm applies them. root is the repository. An error of the schema names
// the value's path and what is allowed.
func Render(root string, r Release) ([]string, error) {
	if r.Namespace == "" {
		r.Namespace = "tendril-system"
	}
	c, err := loader.Load(filepath.Join(root, Dir))
	if err != nil {
		return nil, fmt.Errorf("load chart: %w", err)
	}
	caps := chartutil.DefaultCapabilities.Copy()
	caps.APIVersions = append(caps.APIVersions, r.APIs...)
	values, err := chartutil.ToRenderValues(c, r.Values, chartutil.ReleaseOptions{Name: "tendril", Namespace: r.Namespace, Revision: 1, IsInstall: true}, caps)
	if err != nil {
		return nil, fmt.Errorf("check values: %w", err)
	}
	files, err := engine.Engine{Strict: true}.Render(c, values)
	if err != nil {
		return nil, fmt.Errorf("render chart: %w", err)
	}
	for name := range files {
		if strings.HasSuffix(name, "NOTES.txt") {
			delete(files, name)
		}
	}
	hooks, manifests, err := releaseutil.SortManifests(files, caps.APIVersions, releaseutil.InstallOrder)
	if err != nil {
		return nil, fmt.Errorf("sort objects of the chart: %w", err)
	}
	if len(hooks) > 0 {
		return nil, fmt.Errorf("render chart: %d hooks, which kubectl would not run", len(hooks))
	}
	var out []string
	for _, m := range manifests {
		out = append(out, strings.TrimSpace(m.Content)+"\n")
	}
	return out, nil
}
