package kube

import (
	"context"
	"errors"
	"fmt"
	"os"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"
)

var definitions = schema.GroupVersionResource{
	Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions",
}

// InstallCRDs applies YAML files of one custom resource definition each and returns when all of them
// are established.
func (a *API) InstallCRDs(ctx context.Context, files ...string) error {
	if len(files) == 0 {
		return nil
	}
	config, err := a.RESTConfig(Admin)
	if err != nil {
		return err
	}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	crds := client.Resource(definitions)
	var names []string
	for _, file := range files {
		name, err := applyCRD(ctx, crds, file)
		if err != nil {
			return fmt.Errorf("install %s: %w", file, err)
		}
		names = append(names, name)
	}
	for _, name := range names {
		if err := a.poll(ctx, func(ctx context.Context) error { return established(ctx, crds, name) }); err != nil {
			return fmt.Errorf("wait for definition %s: %w", name, err)
		}
	}
	return nil
}

func applyCRD(ctx context.Context, crds dynamic.ResourceInterface, file string) (name string, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	var object unstructured.Unstructured
	if err := yaml.UnmarshalStrict(text, &object.Object); err != nil {
		return "", err
	}
	if kind := object.GetKind(); kind != "CustomResourceDefinition" {
		return "", fmt.Errorf("kind %q is not CustomResourceDefinition", kind)
	}
	name = object.GetName()
	_, err = crds.Apply(ctx, name, &object, metav1.ApplyOptions{FieldManager: "lab", Force: true})
	return name, err
}

// established reports as an error that a definition is not served yet.
func established(ctx context.Context, crds dynamic.ResourceInterface, name string) error {
	crd, err := crds.Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	conditions, _, err := unstructured.NestedSlice(crd.Object, "status", "conditions")
	if err != nil {
		return err
	}
	for _, c := range conditions {
		if c, ok := c.(map[string]any); ok && c["type"] == "Established" && c["status"] == "True" {
			return nil
		}
	}
	return errors.New("not established")
}
