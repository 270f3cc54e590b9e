// Command manifests makes deployment/manifests from the chart, and with -package
// the chart's archive, in which the definitions are files and not links.
package main

import (
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"

	"github.com/tendril-cni/tendril/tests/chart"
)

func main() {
	root := flag.String("root", ".", "the repository")
	archive := flag.String("package", "", "directory for the chart's archive; empty for the manifests")
	flag.Parse()
	log.SetOutput(io.Discard) // Helm remarks that the definitions are a link
	run := manifests
	if *archive != "" {
		run = func(root string) error { return pack(root, *archive) }
	}
	if err := run(*root); err != nil {
		fmt.Fprintln(os.Stderr, "manifests:", err)
		os.Exit(1)
	}
}

func manifests(root string) error {
	files, err := chart.Plain(root)
	if err != nil {
		return err
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(root, "deployment", "manifests", name), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func pack(root, dir string) error {
	c, err := loader.Load(filepath.Join(root, chart.Dir))
	if err != nil {
		return err
	}
	path, err := chartutil.Save(c, dir)
	if err == nil {
		fmt.Println(path)
	}
	return err
}
