package kube

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"
)

// Names of the files that writeCerts writes.
const (
	caFile        = "ca.crt"
	serverCert    = "server.crt"
	serverKey     = "server.key"
	accountsKey   = "accounts.key" // signs the tokens of service accounts
	validity      = 30 * 24 * time.Hour
	clockSkew     = time.Hour // a guest's clock may be behind
	serviceHost   = "10.96.0.1"
	serviceSubnet = "10.96.0.0/24"
)

// writeCerts makes an authority, writes what the API server serves with into dir, and returns the
// authority's certificate. Its key is forgotten: clients identify themselves by token, so nothing will
// ever be signed again.
func writeCerts(dir string, reach netip.Addr) (ca []byte, err error) {
	caKey, err := newKey()
	if err != nil {
		return nil, err
	}
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "tendril lab"},
		NotBefore: time.Now().Add(-clockSkew), NotAfter: time.Now().Add(validity),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caDER, err := x509.CreateCertificate(rand.Reader, authority, authority, &caKey.PublicKey, caKey)
	if err != nil {
		return nil, fmt.Errorf("sign the authority: %w", err)
	}
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	server := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "kube-apiserver"},
		NotBefore: authority.NotBefore, NotAfter: authority.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IPAddresses: []net.IP{loopback.AsSlice(), reach.AsSlice(), net.ParseIP(serviceHost)},
		DNSNames:    []string{"localhost", "kubernetes.default", "kubernetes.default.svc"},
	}
	serverDER, err := x509.CreateCertificate(rand.Reader, server, authority, &key.PublicKey, caKey)
	if err != nil {
		return nil, fmt.Errorf("sign the server: %w", err)
	}
	accounts, err := newKey()
	if err != nil {
		return nil, err
	}
	ca = encode("CERTIFICATE", caDER)
	return ca, writeFiles(dir, map[string][]byte{
		caFile:      ca,
		serverCert:  encode("CERTIFICATE", serverDER),
		serverKey:   encodeKey(key),
		accountsKey: encodeKey(accounts),
	})
}

// newKey makes a key on P-256, some hundred times faster than an RSA one.
func newKey() (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	return key, nil
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func encodeKey(key *ecdsa.PrivateKey) []byte {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		panic(err) // a key on a curve that newKey chose
	}
	return encode("EC PRIVATE KEY", der)
}

func writeFiles(dir string, files map[string][]byte) error {
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return err
		}
	}
	return nil
}
