package cli_test

import (
	"context"
	"strings"
	"testing"

	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/tendril-cni/tendril/cmd/kubectl-tendril/cli"
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
			cli.Bad, []string{"vlan", "4095", "0..4094"}},
		"not yaml":    {[]string{"lint", "-"}, "{", cli.Misused, []string{"lint:"}},
		"no file":     {[]string{"lint"}, "", cli.Misused, []string{"no file given"}},
		"missing":     {[]string{"lint", "/nonexistent.yaml"}, "", cli.Misused, []string{"/nonexistent.yaml"}},
		"bad flag":    {[]string{"lint", "--clutser"}, "", cli.Misused, []string{"clutser"}},
		"no verb":     {nil, "", cli.Misused, []string{"explain", "status"}},
		"wrong verb":  {[]string{"explian"}, "", cli.Misused, []string{"explian"}},
		"no pod":      {[]string{"explain"}, "", cli.Misused, []string{"arg"}},
		"bad format":  {[]string{"vfs", "-o", "xml"}, "", cli.Misused, []string{`"xml"`, "allowed", "yaml"}},
		"no cluster":  {[]string{"status", "--server=https://127.0.0.1:1", "--request-timeout=1s"}, "", cli.Unseen, []string{"list nodes"}},
		"examples":    {[]string{"lint", "../../../deployment/examples/networks.yaml", "../../../deployment/examples/pod-red.yaml", "../../../deployment/examples/vfpolicy.yaml"}, "", 0, nil},
		"its value":   {[]string{"version"}, "", 0, []string{"kubectl-tendril test"}},
		"completion":  {[]string{"completion", "bash"}, "", 0, []string{"kubectl-tendril"}},
		"complete it": {[]string{"__complete", "exp"}, "", 0, []string{"explain"}},
	} {
		t.Run(name, func(t *testing.T) {
			var out, complaints strings.Builder
			code := cli.Run(context.Background(), c.args, cli.Program{Version: "test",
				Streams: genericiooptions.IOStreams{In: strings.NewReader(c.input), Out: &out, ErrOut: &complaints}})
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
