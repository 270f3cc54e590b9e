package foreign

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/tendril-cni/tendril/tests/crash/sweep"
	"github.com/tendril-cni/tendril/tests/lab/programs"
)

func TestMain(m *testing.M) {
	if os.Getenv("TENDRIL_TEST_INSIDE_NAMESPACES") == "" {
		// The namespaces have no network to get modules from.
		if _, err := plugins(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, "foreign: build the plugins:", err)
			os.Exit(1)
		}
	}
	sweep.Main(m)
}

// plugins returns the directories of Flannel's plugin and of the reference
// plugins, as in CNI_PATH.
func plugins(ctx context.Context) (string, error) {
	flannel, err := programs.Flannel(ctx)
	if err != nil {
		return "", err
	}
	reference, err := programs.Plugins(ctx)
	return flannel + string(os.PathListSeparator) + reference, err
}
