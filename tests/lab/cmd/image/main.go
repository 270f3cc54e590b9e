// Command image writes Tendril's container image as an OCI archive, without a
// container engine.
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/tendril-cni/tendril/tests/lab/oci"
)

func main() {
	bin := flag.String("bin", "bin", "directory with the programs that `make build` makes")
	out := flag.String("o", "bin/tendril.tar", "archive to write")
	flag.Parse()
	img, err := oci.Tendril(*bin)
	if err == nil {
		err = oci.WriteFile(*out, img)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
	fmt.Printf("%s: image %s\n", *out, img.Name)
}
