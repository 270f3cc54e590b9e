package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// asProgram has the test's executable be the program itself.
const asProgram = "TENDRILD_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// start runs the program outside of any cluster.
func start(t *testing.T, args ...string) (said string, err error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), asProgram+"=1", "KUBERNETES_SERVICE_HOST=")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestCommandLineIsMeantWhole: "--pf-link true" is what other programs take; here all
// flags behind it would not be read.
func TestCommandLineIsMeantWhole(t *testing.T) {
	said, err := start(t, "--plan", "--pf-link", "true", "--node-name=n")
	if want := `field argument: value "true" is not allowed`; err == nil || !strings.Contains(said, want) {
		t.Errorf("%v, want %q:\n%s", err, want, said)
	}
}

// TestEveryLineOfTheLogIsJSON: also those of libraries, which have a form of their own.
// The client of the API server says by itself what the server warns of.
func TestEveryLineOfTheLogIsJSON(t *testing.T) {
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Warning", `299 - "out of date"`)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write([]byte(`{"kind":"Status","apiVersion":"v1","status":"Failure","code":403}`))
	}))
	defer api.Close()
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	text := "apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: " + api.URL + "}}]\ncontexts: [{name: c, context: {cluster: c}}]\ncurrent-context: c\n"
	if err := os.WriteFile(kubeconfig, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	said, err := start(t, "--plan", "--node-name=n", "--kubeconfig="+kubeconfig, "--run-dir="+t.TempDir(), "--state-dir="+t.TempDir())
	if err == nil || !strings.Contains(said, "out of date") {
		t.Fatalf("it did not come to the API server: %v\n%s", err, said)
	}
	for line := range strings.Lines(said) {
		var fields map[string]any
		if json.Unmarshal([]byte(line), &fields) != nil {
			t.Errorf("%s", line)
		}
	}
}
