// Command tendril-controller will be the admission webhook and the controllers. It prints its version and says what
// is not there yet.
package main

import (
	"fmt"
	"os"
)

// version is set by the linker.
var version = "dev"

func main() {
	fmt.Fprintf(os.Stderr, "tendril-controller %s\nnot there yet: webhooks, address reclaim and VF-policy roll-out come with their own issues\n", version)
	if len(os.Args) > 1 && (os.Args[1] == "--version" || os.Args[1] == "version") {
		return
	}
	os.Exit(1)
}
