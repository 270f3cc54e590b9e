package dhcp_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/tendril-cni/tendril/cni/dhcp"
	"github.com/tendril-cni/tendril/cni/refusal"
)

// FuzzParse: whatever is written, it becomes options that fit into a message, or a
// refusal that names the field and what is allowed.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		`{"type":"dhcp","provide":[{"option":"host-name","fromArg":"K"}],"request":[{"option":"routers"},{"skipDefault":true}],"priority":7}`,
		`{"provide":[{"option":"0","value":"x"}]}`, `{"priority":-1}`, `{"request":[{"option":"255"}]}`, `[]`, `null`, `{`,
	} {
		f.Add([]byte(s), "value")
	}
	f.Fuzz(func(t *testing.T, in []byte, arg string) {
		r, err := dhcp.Parse(in, map[string]string{"K": arg})
		if err != nil {
			var refused *refusal.Refusal
			if !errors.As(err, &refused) || !strings.HasPrefix(refused.Field, "ipam") || refused.Allowed == "" {
				t.Errorf("%q: %v is not a whole refusal", in, err)
			}
			return
		}
		for code, value := range r.Options {
			if code == 0 || code == 255 || value == "" || len(value) > 255 {
				t.Errorf("%q: option %d has %d bytes", in, code, len(value))
			}
		}
	})
}
