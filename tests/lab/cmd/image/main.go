// Command image writes Tendril's container image as an OCI archive, without a
// container engine, and its bill of materials beside it.
package main

import (
	"flag"
	"fmt"
	"os"
	"strings"

	"github.com/tendril-cni/tendril/tests/lab/oci"
)

func main() {
	build := oci.Build{Bin: map[string]string{}}
	flag.Func("platform", "architecture=directory with its programs, repeatable", func(s string) error {
		arch, dir, ok := strings.Cut(s, "=")
		if !ok {
			return fmt.Errorf("no directory; allowed: amd64=bin")
		}
		build.Bin[arch] = dir
		return nil
	})
	flag.StringVar(&build.Name, "name", oci.TendrilImage, "the image's reference")
	flag.StringVar(&build.Version, "version", "dev", "the programs' version")
	kinds := flag.String("kinds", "", "the names that tendril-cni answers to")
	out := flag.String("o", "bin/tendril.tar", "archive to write")
	flag.Parse()
	build.Kinds = strings.Fields(*kinds)
	if err := write(build, *out); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func write(build oci.Build, out string) error {
	images, bill, err := oci.Tendril(build)
	if err != nil {
		return err
	}
	if err := oci.WriteFile(out, images...); err != nil {
		return err
	}
	beside := strings.TrimSuffix(out, ".tar") + ".spdx.json"
	if err := os.WriteFile(beside, bill, 0o644); err != nil {
		return err
	}
	fmt.Printf("%s: image %s for %d architectures; %s\n", out, build.Name, len(images), beside)
	return nil
}
