package programs_test

import (
	"os"
	"strings"
	"testing"

	"github.com/tendril-cni/tendril/tests/lab/programs"
)

// The version is in the go.mod for the go command and in the source for the linker's stamp; clients
// would believe the stamp.
func TestKubernetesVersionIsTheModules(t *testing.T) {
	mod, err := os.ReadFile("kubernetes/go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(mod), "\tk8s.io/kubernetes "+programs.KubernetesVersion+"\n") {
		t.Errorf("kubernetes/go.mod does not require k8s.io/kubernetes %s", programs.KubernetesVersion)
	}
}
