// Command kubectl-tendril will be the command line for people. It prints its version and says what
// is not there yet.
package main

import (
	"fmt"
	"os"
)

// version is set by the linker.
var version = "dev"

func main() {
	fmt.Fprintf(os.Stderr, "kubectl-tendril %s\nnot there yet: explain, status, vfs, ips, plan, lint, doctor and migrate\n", version)
	if len(os.Args) > 1 && (os.Args[1] == "--version" || os.Args[1] == "version") {
		return
	}
	os.Exit(1)
}
