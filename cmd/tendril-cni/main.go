// Command tendril-cni will be the drivers as ordinary CNI executables. It prints its version and says what
// is not there yet.
package main

import (
	"fmt"
	"os"
)

// version is set by the linker.
var version = "dev"

func main() {
	fmt.Fprintf(os.Stderr, "tendril-cni %s\nnot there yet: macvlan, ipvlan, sriov and the others run inside tendrild only, so far\n", version)
	if len(os.Args) > 1 && (os.Args[1] == "--version" || os.Args[1] == "version") {
		return
	}
	os.Exit(1)
}
