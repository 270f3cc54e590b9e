package bundle_test

import (
	"strings"
	"testing"

	"github.com/tendril-cni/tendril/cmd/kubectl-tendril/bundle"
)

// planted is in every text as the secret.
const planted = "hunter2-XYZZY"

func TestRedact(t *testing.T) {
	jwt := "eyJhbGciOiJSUzI1NiIsImtpZCI6Ik.eyJpc3MiOiJrdWJlcm5ldGVz.c2lnbmF0dXJl" // made up
	for name, text := range map[string]string{
		"yaml":                   "data:\n  password: " + planted + "\n",
		"yaml, quoted":           `api_key: "` + planted + ` with blanks"`,
		"json":                   `{"user":"a","token":"` + planted + `"}`,
		"json in json":           `{"config":"{\"type\":\"x\",\"password\":\"` + planted + `\"}"}`,
		"twice in json":          `"a":"{\\\"secret\\\":\\\"` + planted + `\\\"}"`,
		"environment":            "DB_PASSWORD=" + planted,
		"flag":                   "tendrild --some-token=" + planted + " --other",
		"header":                 "Authorization: Bearer " + planted,
		"header in a log":        `"msg":"GET","header":"bearer ` + planted + `"`,
		"url":                    "https://admin:" + planted + "@10.0.0.1/x",
		"kubeconfig":             "users:\n- name: a\n  user:\n    client-key-data: " + planted + "\n    token: " + planted,
		"jwt":                    "it used " + jwt + " for that",
		"key":                    "-----BEGIN EC PRIVATE KEY-----\n" + planted + "\n-----END EC PRIVATE KEY-----",
		"key that was cut":       "-----BEGIN RSA PRIVATE KEY-----\n" + planted + "\nmore",
		"single quotes":          "secret: '" + planted + "'",
		"a key of another style": `apiKey: ` + planted,
		"base64":                 strings.Repeat("QUJD", 40) + " " + "psk=" + planted,
	} {
		t.Run(name, func(t *testing.T) {
			got := string(bundle.Redact([]byte(text)))
			if strings.Contains(got, planted) || strings.Contains(got, jwt) || strings.Contains(got, "QUJDQUJD") {
				t.Errorf("%q became %q", text, got)
			}
		})
	}
}

func TestRedactKeepsWhatIsNeeded(t *testing.T) {
	for _, text := range []string{
		`NetworkAttachmentDefinition "default/storage": field master: value "sriov1" is not allowed; allowed: a link of the host: eth0`,
		`{"level":"INFO","msg":"serving","socket":"/run/tendril/tendril.sock","pci":"0000:01:10.0","mac":"02:00:00:00:00:01"}`,
		"10.56.1.11/24 default/red net1 node1 3f1c2d64-2f9c-4f0e-8c1e-2d7f0b6f6c11",
	} {
		if got := string(bundle.Redact([]byte(text))); got != text {
			t.Errorf("%s\nbecame\n%s", text, got)
		}
	}
}

func TestDocument(t *testing.T) {
	got := bundle.Document(`{"type":"calico","vlan":42,"kubernetes":{"kubeconfig":"/etc/x"},"list":[{"db_password":{"v":"` + planted + `"}}]}`)
	if want := `{"kubernetes":{"kubeconfig":"REDACTED"},"list":[{"db_password":"REDACTED"}],"type":"calico","vlan":42}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
