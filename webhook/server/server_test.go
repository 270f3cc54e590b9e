package server_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	admissionv1 "k8s.io/api/admission/v1"

	"github.com/tendril-cni/tendril/webhook/server"
)

var discard = slog.New(slog.NewTextHandler(io.Discard, nil))

// running is a server that allows everything, with its client.
type running struct {
	addr   string
	client *http.Client
	stop   func() error
}

func start(t *testing.T, o server.TLSOptions, review server.Review, change ...func(*server.Server)) *running {
	t.Helper()
	cert, roots := selfSigned(t)
	config, err := o.Config(func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert, nil })
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server.Server{Mutate: review, Validate: review, TLS: config, Log: discard,
		Metrics: server.NewMetrics(prometheus.NewRegistry(), func() time.Time { return time.Time{} })}
	for _, c := range change {
		c(s)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, ln) }()
	r := &running{addr: ln.Addr().String(), client: &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}}
	r.stop = func() error { cancel(); return <-done }
	t.Cleanup(func() { cancel(); r.client.CloseIdleConnections() })
	return r
}

func selfSigned(t *testing.T) (*tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

func allow(_ context.Context, req *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	return &admissionv1.AdmissionResponse{UID: req.UID, Allowed: true}
}

const review = `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u"}}`

// TestRequests are the answers to what is no review: those of the injector, and
// answers where it ends or panics.
func TestRequests(t *testing.T) {
	r := start(t, server.TLSOptions{}, allow)
	for _, tt := range []struct {
		method, path, kind, body string
		want                     int
	}{
		{"POST", "/mutate", "application/json", review, 200},
		{"POST", "/validate?timeout=5s", "application/json", review, 200},
		{"POST", "/mutate", "application/json", strings.Replace(review, "k8s.io/v1", "k8s.io/v1beta1", 1), 200},
		{"GET", "/mutate", "", "", 405},
		{"PUT", "/validate", "application/json", review, 405},
		{"POST", "/", "application/json", review, 404},
		{"POST", "/mutate/x", "application/json", review, 404},
		{"POST", "/mutate", "application/json", "", 400},
		{"POST", "/mutate", "text/plain", review, 415},
		{"POST", "/mutate", "application/json; charset=utf-8", review, 415},
		{"POST", "/mutate", "application/json", "{", 400},
		{"POST", "/mutate", "application/json", "null", 400},
		{"POST", "/mutate", "application/json", `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}`, 400},
		{"POST", "/mutate", "application/json", `{"apiVersion":"v1","kind":"Pod","request":{}}`, 400},
		{"POST", "/mutate", "application/json", `"` + strings.Repeat("x", 9<<20), 413},
	} {
		req, err := http.NewRequestWithContext(t.Context(), tt.method, "https://"+r.addr+tt.path, strings.NewReader(tt.body))
		if err != nil {
			t.Fatal(err)
		}
		if tt.kind != "" {
			req.Header.Set("Content-Type", tt.kind)
		}
		resp, err := r.client.Do(req)
		if err != nil {
			t.Errorf("%s %s: %v", tt.method, tt.path, err)
			continue
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != tt.want {
			t.Errorf("%s %s %.80s: %s %s, want %d", tt.method, tt.path, tt.body, resp.Status, body, tt.want)
		}
		var out admissionv1.AdmissionReview
		if tt.want == 200 && (json.Unmarshal(body, &out) != nil || out.Response == nil || out.Response.UID != "u" || out.Kind != "AdmissionReview") {
			t.Errorf("%s: response %s", tt.path, body)
		}
	}
}

// TestReviewsUnderWayAreAnswered: the end waits for them.
func TestReviewsUnderWayAreAnswered(t *testing.T) {
	begun, end := make(chan struct{}), make(chan struct{})
	r := start(t, server.TLSOptions{}, func(ctx context.Context, req *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		close(begun)
		<-end
		return allow(ctx, req)
	})
	answer := make(chan error, 1)
	go func() {
		resp, err := r.client.Post("https://"+r.addr+"/mutate", "application/json", strings.NewReader(review))
		if err == nil && resp.StatusCode != 200 {
			err = errors.New(resp.Status)
		}
		answer <- err
	}()
	<-begun
	ended := make(chan error, 1)
	go func() { ended <- r.stop() }()
	// New connections are refused from the moment of the end.
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		c, err := net.Dial("tcp", r.addr)
		if err != nil {
			break
		}
		_ = c.Close()
		if time.Now().After(deadline) {
			t.Fatal("still listening")
		}
	}
	close(end)
	if err := <-answer; err != nil {
		t.Errorf("review under way: %v", err)
	}
	if err := <-ended; err != nil {
		t.Errorf("serve: %v", err)
	}
}

// TestDrainingServesAndSendsAway: before the listener goes, kept connections are
// given up one by one, each with an answer, so that none is cut under a request.
func TestDrainingServesAndSendsAway(t *testing.T) {
	r := start(t, server.TLSOptions{}, allow, func(s *server.Server) { s.Drain = 20 * time.Second })
	post := func() (closes bool, err error) {
		resp, err := r.client.Post("https://"+r.addr+"/mutate", "application/json", strings.NewReader(review))
		if err != nil {
			return false, err
		}
		defer resp.Body.Close()
		_, err = io.Copy(io.Discard, resp.Body)
		return resp.Close, err
	}
	if closes, err := post(); err != nil || closes {
		t.Fatalf("before the end: connection closed %v, error %v", closes, err)
	}
	go func() { _ = r.stop() }() // it drains on behind the test
	for deadline := time.Now().Add(time.Minute); ; {
		closes, err := post()
		if closes {
			break
		}
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("the connection is kept: %v", err)
		}
	}
	// Not the end yet: who comes again is still served.
	if _, err := post(); err != nil {
		t.Errorf("after a connection was given up: %v", err)
	}
}

// TestReviewEndsBeforeTheAPIServerGivesUp looks at the deadline that a review
// gets.
func TestReviewEndsBeforeTheAPIServerGivesUp(t *testing.T) {
	left := make(chan time.Duration, 1)
	r := start(t, server.TLSOptions{}, func(ctx context.Context, req *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		end, _ := ctx.Deadline()
		left <- time.Until(end)
		return allow(ctx, req)
	})
	for query, most := range map[string]time.Duration{"": 5 * time.Second, "?timeout=10s": 10 * time.Second, "?timeout=x": 5 * time.Second} {
		resp, err := r.client.Post("https://"+r.addr+"/mutate"+query, "application/json", strings.NewReader(review))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if d := <-left; d >= most {
			t.Errorf("%q: %v left, want less than %v", query, d, most)
		}
	}
}

func TestTLSVersions(t *testing.T) {
	for minimum, refused := range map[string]uint16{"VersionTLS12": tls.VersionTLS11, "VersionTLS13": tls.VersionTLS12} {
		r := start(t, server.TLSOptions{MinVersion: minimum}, allow)
		newest, err := tls.Dial("tcp", r.addr, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		if v := newest.ConnectionState().Version; v != tls.VersionTLS13 {
			t.Errorf("%s: version %x is used, want 1.3", minimum, v)
		}
		_ = newest.Close()
		if c, err := tls.Dial("tcp", r.addr, &tls.Config{InsecureSkipVerify: true, MaxVersion: refused, MinVersion: tls.VersionTLS10}); err == nil {
			t.Errorf("%s: version %x is accepted", minimum, refused)
			_ = c.Close()
		}
	}
	for _, bad := range []server.TLSOptions{{MinVersion: "VersionTLS11"}, {CipherSuites: []string{"TLS_RSA_WITH_RC4_128_SHA"}}, {Curves: []string{"x"}}, {ClientCAs: []string{"/dev/null"}}} {
		if _, err := bad.Config(nil); err == nil {
			t.Errorf("%+v is accepted", bad)
		}
	}
	good := server.TLSOptions{CipherSuites: []string{"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"}, Curves: []string{"X25519MLKEM768", "CurveP256"}}
	if c, err := good.Config(nil); err != nil || len(c.CipherSuites) != 1 || len(c.CurvePreferences) != 2 {
		t.Errorf("%+v: %v", good, err)
	}
}

// TestClientAuthority: with one, a client has to show a certificate of it.
func TestClientAuthority(t *testing.T) {
	cert, _ := selfSigned(t)
	file := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}), 0o600); err != nil {
		t.Fatal(err)
	}
	r := start(t, server.TLSOptions{ClientCAs: []string{file}}, allow)
	if resp, err := r.client.Post("https://"+r.addr+"/mutate", "application/json", strings.NewReader(review)); err == nil {
		_ = resp.Body.Close()
		t.Error("a client without certificate is served")
	}
	r.client.Transport.(*http.Transport).TLSClientConfig.Certificates = []tls.Certificate{*cert}
	resp, err := r.client.Post("https://"+r.addr+"/mutate", "application/json", strings.NewReader(review))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
}

func TestHandshake(t *testing.T) {
	r := start(t, server.TLSOptions{}, allow)
	if err := server.Handshake(t.Context(), r.addr); err != nil {
		t.Error(err)
	}
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	for _, addr := range []string{"127.0.0.1:1", strings.TrimPrefix(plain.URL, "http://")} {
		if err := server.Handshake(t.Context(), addr); err == nil {
			t.Errorf("%s: no error", addr)
		}
	}
}

func TestHealth(t *testing.T) {
	bad := errors.New("no certificate yet")
	for want, err := range map[int]error{200: nil, 503: bad} {
		ln, lerr := net.Listen("tcp", "127.0.0.1:0")
		if lerr != nil {
			t.Fatal(lerr)
		}
		ctx, cancel := context.WithCancel(t.Context())
		h := &server.Health{Alive: func(context.Context) error { return nil }, Ready: func(context.Context) error { return err }, Metrics: prometheus.NewRegistry()}
		done := make(chan error, 1)
		go func() { done <- h.Serve(ctx, ln) }()
		for path, want := range map[string]int{"/healthz": 200, "/readyz": want, "/metrics": 200, "/x": 404} {
			resp, err := http.Get(fmt.Sprintf("http://%s%s", ln.Addr(), path))
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if resp.StatusCode != want || want == 503 && !bytes.Contains(body, []byte(bad.Error())) {
				t.Errorf("%s: %s %s, want %d", path, resp.Status, body, want)
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
