package v1alpha1_test

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/tendril-cni/tendril/vf/v1alpha1"
)

// schema is the part of a definition's openAPIV3Schema that is compared.
type schema struct {
	Properties map[string]schema `json:"properties"`
	Items      *schema           `json:"items"`
}

func definition(t *testing.T, plural string) schema {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "deployment", "crds", v1alpha1.Group+"_"+plural+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var crd struct {
		Spec struct {
			Versions []struct {
				Schema struct {
					OpenAPIV3Schema schema `json:"openAPIV3Schema"`
				} `json:"schema"`
			} `json:"versions"`
		} `json:"spec"`
	}
	if err := yaml.Unmarshal(data, &crd); err != nil {
		t.Fatal(err)
	}
	return crd.Spec.Versions[0].Schema.OpenAPIV3Schema
}

// TestDefinitionsHaveTheFieldsOfTheTypes: a field that only one of them has would
// be dropped by the API server, or never be filled.
func TestDefinitionsHaveTheFieldsOfTheTypes(t *testing.T) {
	compare(t, "spec", reflect.TypeFor[v1alpha1.VFPolicySpec](), definition(t, "vfpolicies").Properties["spec"])
	compare(t, "status", reflect.TypeFor[v1alpha1.NodeVFStateStatus](), definition(t, "nodevfstates").Properties["status"])
}

func compare(t *testing.T, path string, typ reflect.Type, s schema) {
	t.Helper()
	for typ.Kind() == reflect.Slice || typ.Kind() == reflect.Pointer {
		if typ.Kind() == reflect.Slice && s.Items != nil {
			s = *s.Items
		}
		typ = typ.Elem()
	}
	if typ.Kind() != reflect.Struct || strings.HasPrefix(typ.PkgPath(), "k8s.io/") && typ.Name() != "Condition" {
		return
	}
	var inType, inSchema []string
	for i := range typ.NumField() {
		name, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
		inType = append(inType, name)
		compare(t, path+"."+name, typ.Field(i).Type, s.Properties[name])
	}
	for name := range s.Properties {
		inSchema = append(inSchema, name)
	}
	slices.Sort(inType)
	slices.Sort(inSchema)
	if d := cmp.Diff(inType, inSchema); d != "" {
		t.Errorf("%s (-type +schema):\n%s", path, d)
	}
}
