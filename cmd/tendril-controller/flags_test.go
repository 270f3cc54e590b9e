package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// asProgram has the test's executable be the program itself.
const asProgram = "TENDRIL_CONTROLLER_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// start runs the program outside of any cluster.
func start(t *testing.T, line string) (said string, err error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], strings.Fields(line)...)
	cmd.Env = append(os.Environ(), asProgram+"=1", "KUBERNETES_SERVICE_HOST=")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestCommandLineIsMeantWhole: nothing of it is passed over. "-strict true" is what
// other programs take; here all flags behind it would not be read.
func TestCommandLineIsMeantWhole(t *testing.T) {
	for line, want := range map[string]string{
		"-strict true -port 9443":                `command line: field argument: value "true" is not allowed`,
		"-tls-private-key-file /etc/tls/tls.key": "field --tls-cert-file",
		"-tls-cert-file /etc/tls/tls.crt":        "field --tls-private-key-file",
	} {
		said, err := start(t, line)
		if err == nil || !strings.Contains(strings.ReplaceAll(said, `\"`, `"`), want) {
			t.Errorf("%s: %v, want %q:\n%s", line, err, want, said)
		}
	}
}

// TestEveryLineOfTheLogIsJSON: also those of libraries, which have a form of their own.
func TestEveryLineOfTheLogIsJSON(t *testing.T) {
	said, err := start(t, "-log-level debug")
	if err == nil {
		t.Fatal("it ended well without a cluster")
	}
	for line := range strings.Lines(said) {
		var fields map[string]any
		if json.Unmarshal([]byte(line), &fields) != nil {
			t.Errorf("%s", line)
		}
	}
}
