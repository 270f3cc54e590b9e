package cluster

import (
	"context"
	"fmt"
	"os"

	"github.com/tendril-cni/tendril/tests/lab"
)

// Main is for the TestMain of a package that starts clusters: it fetches what they need where the
// network still is, and runs the tests in a lab.
func Main(m interface{ Run() int }) {
	lab.Init()
	if !lab.Inside() {
		if err := Fetch(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, "fetch cluster:", err)
			os.Exit(1)
		}
	}
	lab.Main(m)
}
