package fault_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tendril-cni/tendril/tests/meta/fault"
)

func TestFaults(t *testing.T) {
	var written atomic.Int32
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			written.Add(1)
		}
		_, _ = io.WriteString(w, "served")
	}))
	defer server.Close()
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert"), filepath.Join(dir, "key")
	der, err := x509.MarshalPKCS8PrivateKey(server.TLS.Certificates[0].PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	write(t, cert, "CERTIFICATE", server.Certificate().Raw)
	write(t, key, "PRIVATE KEY", der)
	p, err := fault.Start(fault.Options{Address: "127.0.0.1:0", Cert: cert, Key: key, Server: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	ask := func(method string) string {
		r, _ := http.NewRequest(method, fmt.Sprintf("https://127.0.0.1:%d/x", p.Port()), nil)
		res, err := client.Do(r)
		if err != nil {
			return "no answer"
		}
		defer res.Body.Close()
		return res.Status
	}
	for name, c := range map[string]struct {
		fault             fault.Fault
		get, patch, again string
		writes            int32
	}{
		"none":              {fault.Fault{}, "200 OK", "200 OK", "200 OK", 2},
		"slow":              {fault.Fault{Delay: time.Millisecond}, "200 OK", "200 OK", "200 OK", 2},
		"away":              {fault.Fault{Away: true}, "no answer", "no answer", "no answer", 0},
		"one conflict":      {fault.Fault{Code: 409, Writes: true, Times: 1}, "200 OK", "409 Conflict", "200 OK", 1},
		"all errors":        {fault.Fault{Code: 500}, "500 Internal Server Error", "500 Internal Server Error", "500 Internal Server Error", 0},
		"commit, no answer": {fault.Fault{Drop: true, Writes: true, Times: 1}, "200 OK", "no answer", "200 OK", 2},
	} {
		t.Run(name, func(t *testing.T) {
			written.Store(0)
			p.Set(c.fault)
			defer p.Set(fault.Fault{})
			if got := ask(http.MethodGet); got != c.get {
				t.Errorf("GET: %s, want %s", got, c.get)
			}
			if got := ask(http.MethodPatch); got != c.patch {
				t.Errorf("PATCH: %s, want %s", got, c.patch)
			}
			if got := ask(http.MethodPatch); got != c.again {
				t.Errorf("PATCH again: %s, want %s", got, c.again)
			}
			if n := written.Load(); n != c.writes {
				t.Errorf("%d writes were served, want %d", n, c.writes)
			}
		})
	}
}

func write(t *testing.T, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}
