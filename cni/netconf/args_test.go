package netconf_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tendril-cni/tendril/cni/netconf"
)

func TestArgs(t *testing.T) {
	for text, want := range map[string]map[string]string{
		"":                                 {},
		"IgnoreUnknown=1;K8S_POD_NAME=web": {"IgnoreUnknown": "1", "K8S_POD_NAME": "web"},
		"A=1;A=2;;B;=c;D=e=f":              {"A": "2", "B": "", "D": "e=f"},
	} {
		if diff := cmp.Diff(want, netconf.Args(text)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", text, diff)
		}
	}
}
