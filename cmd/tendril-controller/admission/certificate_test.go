package admission_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tendril-cni/tendril/cmd/tendril-controller/admission"
	"github.com/tendril-cni/tendril/webhook/certs"
	"github.com/tendril-cni/tendril/webhook/kube"
)

// TestRotationUnderLoad turns authority and leaf over while clients shake hands
// with both replicas and pods are created. A client trusts the bundle that it
// read last, as API servers do.
func TestRotationUnderLoad(t *testing.T) {
	w := newWorld(t)
	quick := func(c *admission.Config) {
		c.Interval = 100 * time.Millisecond
		// Validity has a grain of a second, and a third of it less the overlap is
		// what a busy machine may lose.
		c.Policy = certs.Policy{Names: []string{"localhost"}, CAValidity: 18 * time.Second, LeafValidity: 12 * time.Second, Overlap: 2 * time.Second}
	}
	replicas := []*replica{w.replica(quick), w.replica(quick)}
	w.mustDefine("net", macvlan, resourceOf)
	first := w.bundle()
	var trusted atomic.Pointer[[]byte]
	trusted.Store(&first)
	stop := make(chan struct{})
	var group sync.WaitGroup
	var shakes, failures, pods atomic.Int64
	serials, authorities := sync.Map{}, sync.Map{}
	for i := range 4 {
		group.Go(func() {
			for !closed(stop) {
				serial, err := handshake(replicas[i%2].port, *trusted.Load())
				if shakes.Add(1); err != nil {
					failures.Add(1)
					t.Errorf("handshake: %v", err)
					return
				}
				serials.Store(serial, true)
			}
		})
	}
	group.Go(func() { // a slow reader of the configuration
		for !closed(stop) {
			b := w.bundle()
			authorities.Store(string(lastPEM(b)), true)
			trusted.Store(&b)
			time.Sleep(300 * time.Millisecond)
		}
	})
	group.Go(func() {
		for !closed(stop) {
			_, err := w.pod(fmt.Sprintf("p%d", pods.Add(1)), map[string]string{"k8s.v1.cni.cncf.io/networks": "net"}, nil)
			if err != nil {
				t.Errorf("pod: %v", err)
				return
			}
		}
	})
	w.eventually("two turns of the authority", func() error {
		if t.Failed() {
			return nil
		}
		if n := count(&authorities); n < 3 || count(&serials) < 3 || bytes.Contains(w.bundle(), first) {
			return fmt.Errorf("%d authorities, %d leaves", n, count(&serials))
		}
		return nil
	})
	close(stop)
	group.Wait()
	t.Logf("%d handshakes, %d failed; %d pods; %d authorities, %d leaves", shakes.Load(), failures.Load(), pods.Load(), count(&authorities), count(&serials))
}

func closed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func count(m *sync.Map) (n int) {
	m.Range(func(any, any) bool { n++; return true })
	return n
}

// lastPEM is the newest certificate of a bundle.
func lastPEM(bundle []byte) []byte {
	var last []byte
	for {
		block, rest := pem.Decode(bundle)
		if block == nil {
			return last
		}
		last, bundle = block.Bytes, rest
	}
}

// TestReplicasAgreeOnOneAuthority starts many at once over an empty Secret and
// over none at all.
func TestReplicasAgreeOnOneAuthority(t *testing.T) {
	w := newWorld(t)
	for _, start := range []string{"empty", "absent"} {
		name := "race-" + start
		if start == "empty" {
			name = "tendril-webhook-cert"
		}
		secrets := w.client.CoreV1().Secrets("tendril-system")
		var keepers []*certs.Keeper
		var group sync.WaitGroup
		published := &bundles{}
		for range 8 {
			k := certs.NewKeeper(kube.NewSecret(secrets, name), published, certs.Policy{Names: []string{"localhost"}}, time.Minute, time.Now, discard)
			keepers = append(keepers, k)
			group.Go(func() {
				if err := k.Step(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		for i, k := range keepers {
			if err := k.Step(t.Context()); err != nil {
				t.Error(err)
			}
			if err := k.Ready(); err != nil {
				t.Errorf("%s: replica %d: %v", start, i, err)
			}
			if !bytes.Equal(k.Bundle(), keepers[0].Bundle()) {
				t.Errorf("%s: replica %d has another authority", start, i)
			}
		}
		if n := published.count(); n != 1 {
			t.Errorf("%s: %d bundles were published", start, n)
		}
		if err := secrets.Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

// bundles remembers what was published.
type bundles struct {
	mu   sync.Mutex // guards seen
	seen map[string]bool
}

// Publish implements certs.Publisher.
func (b *bundles) Publish(_ context.Context, bundle []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.seen == nil {
		b.seen = map[string]bool{}
	}
	b.seen[string(bundle)] = true
	return nil
}

func (b *bundles) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.seen)
}

// TestReadyTellsTheTruth: not ready while no API server is told to trust us,
// ready after; alive all the time.
func TestReadyTellsTheTruth(t *testing.T) {
	w := newWorld(t)
	if err := w.client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Delete(t.Context(), "tendril", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	health := freePort(t)
	quick := func(c *admission.Config) { c.Interval, c.HealthPort = 100*time.Millisecond, health }
	ready := make(chan struct{})
	go func() {
		defer close(ready)
		w.eventually("not ready without configuration", func() error {
			err := probe(health, "/readyz")
			if err == nil || !strings.Contains(err.Error(), "validatingwebhookconfigurations") {
				return fmt.Errorf("readyz says %v", err)
			}
			return probe(health, "/healthz")
		})
		w.install()
	}()
	w.replica(quick) // returns when ready
	<-ready
	if err := probe(health, "/healthz"); err != nil {
		t.Error(err)
	}
}

// TestCertificateOfFiles: somebody else renews the pair, one file at a time; the
// authority in the configurations is left alone.
func TestCertificateOfFiles(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	old := writePair(t, cert, key)
	r := w.replica(func(c *admission.Config) { c.CertFile, c.KeyFile = cert, key })
	if _, err := handshake(r.port, old); err != nil {
		t.Fatal(err)
	}
	if b := w.bundle(); b != nil {
		t.Errorf("authority %s was published", b)
	}
	// Between the two renames the old pair serves.
	next := filepath.Join(dir, "next")
	fresh := writePair(t, next+".crt", next+".key")
	if err := os.Rename(next+".crt", cert); err != nil {
		t.Fatal(err)
	}
	if _, err := handshake(r.port, old); err != nil {
		t.Errorf("half a pair: %v", err)
	}
	if err := os.Rename(next+".key", key); err != nil {
		t.Fatal(err)
	}
	w.eventually("the new pair", func() error {
		_, err := handshake(r.port, fresh)
		return err
	})
}

// writePair writes a certificate that signs itself and its key.
func writePair(t *testing.T, cert, key string) (bundle []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), DNSNames: []string{"localhost"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	bundle = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for path, text := range map[string][]byte{cert: bundle, key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return bundle
}

// TestInvariant10RightsOfTheController: what the manifest grants, and what it
// does not.
func TestInvariant10RightsOfTheController(t *testing.T) {
	w := newWorld(t)
	type right struct{ verb, group, resource, namespace, name string }
	for r, want := range map[right]bool{
		{"get", "", "secrets", "tendril-system", "tendril-webhook-cert"}:                             true,
		{"update", "", "secrets", "tendril-system", "tendril-webhook-cert"}:                          true,
		{"get", "", "secrets", "tendril-system", "other"}:                                            false,
		{"list", "", "secrets", "tendril-system", ""}:                                                false,
		{"get", "", "secrets", "kube-system", "tendril-webhook-cert"}:                                false,
		{"create", "", "secrets", "tendril-system", ""}:                                              false,
		{"patch", "admissionregistration.k8s.io", "mutatingwebhookconfigurations", "", "tendril"}:    true,
		{"patch", "admissionregistration.k8s.io", "mutatingwebhookconfigurations", "", "other"}:      false,
		{"delete", "admissionregistration.k8s.io", "validatingwebhookconfigurations", "", "tendril"}: false,
		{"watch", "admissionregistration.k8s.io", "validatingwebhookconfigurations", "", "tendril"}:  true,
		{"watch", "admissionregistration.k8s.io", "validatingwebhookconfigurations", "", ""}:         false,
		{"get", "", "pods", "default", "p"}:                                                          true,
		{"list", "", "pods", "", ""}:                                                                 false,
		{"patch", "", "pods", "default", "p"}:                                                        false,
		{"list", "k8s.cni.cncf.io", "network-attachment-definitions", "", ""}:                        true,
		{"update", "k8s.cni.cncf.io", "network-attachment-definitions", "default", "n"}:              false,
		{"watch", "", "configmaps", "tendril-system", "nri-control-switches"}:                        true,
		{"watch", "", "configmaps", "tendril-system", ""}:                                            false,
		{"watch", "tendril.dev", "nodevfstates", "", ""}:                                             true,
		{"update", "tendril.dev", "vfpolicies", "", "p"}:                                             false,
		{"update", "", "nodes", "", "n"}:                                                             false,
		{"update", "tendril.dev", "addressblocks", "", "b"}:                                          true,
		{"create", "tendril.dev", "addressblocks", "", "b"}:                                          false,
		{"update", "coordination.k8s.io", "leases", "tendril-system", "tendril-controller"}:          true,
		{"update", "coordination.k8s.io", "leases", "tendril-system", "other"}:                       false,
		{"delete", "k8s.cni.cncf.io", "ipamclaims", "default", "c"}:                                  true,
		{"list", "apps", "statefulsets", "", ""}:                                                     false,
	} {
		review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
			User: identity, Groups: []string{"system:serviceaccounts", "system:authenticated"},
			ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: r.verb, Group: r.group, Resource: r.resource, Namespace: r.namespace, Name: r.name},
		}}
		got, err := w.client.AuthorizationV1().SubjectAccessReviews().Create(t.Context(), review, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if got.Status.Allowed != want {
			t.Errorf("%+v: allowed %v, want %v", r, got.Status.Allowed, want)
		}
	}
}
