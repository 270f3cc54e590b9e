package main

import (
	"context"
	"strings"
	"testing"
)

func TestLint(t *testing.T) {
	for name, c := range map[string]struct {
		args  []string
		input string
		code  int
		want  []string
	}{
		"fine": {[]string{"lint", "-"}, `{"apiVersion":"k8s.cni.cncf.io/v1","kind":"NetworkAttachmentDefinition","metadata":{"name":"a"},"spec":{"config":"{\"cniVersion\":\"1.0.0\",\"name\":\"a\",\"type\":\"macvlan\",\"master\":\"eth0\"}"}}`, 0, nil},
		"denied": {[]string{"lint", "-"}, `{"apiVersion":"k8s.cni.cncf.io/v1","kind":"NetworkAttachmentDefinition","metadata":{"name":"a","annotations":{"k8s.v1.cni.cncf.io/resourceName":"x.y/z"}},"spec":{"config":"{\"cniVersion\":\"1.0.0\",\"name\":\"a\",\"type\":\"sriov\",\"vlan\":4095}"}}`,
			exitDenied, []string{"vlan", "4095", "0..4094"}},
		"not yaml":  {[]string{"lint", "-"}, "{", exitUsage, []string{"lint:"}},
		"no file":   {[]string{"lint"}, "", exitUsage, []string{"no file given"}},
		"missing":   {[]string{"lint", "/nonexistent.yaml"}, "", exitUsage, []string{"/nonexistent.yaml"}},
		"bad flag":  {[]string{"lint", "--clutser"}, "", exitUsage, []string{"clutser"}},
		"no verb":   {nil, "", exitUsage, []string{"not there yet"}},
		"examples":  {[]string{"lint", "../../deployment/examples/networks.yaml", "../../deployment/examples/pod-red.yaml", "../../deployment/examples/vfpolicy.yaml"}, "", 0, nil},
		"its value": {[]string{"version"}, "", 0, []string{"kubectl-tendril"}},
	} {
		t.Run(name, func(t *testing.T) {
			var out, complaints strings.Builder
			code := run(context.Background(), c.args, strings.NewReader(c.input), &out, &complaints)
			said := out.String() + complaints.String()
			if code != c.code {
				t.Errorf("exit code %d, want %d:\n%s", code, c.code, said)
			}
			for _, w := range c.want {
				if !strings.Contains(said, w) {
					t.Errorf("it does not say %q:\n%s", w, said)
				}
			}
		})
	}
}
