package server

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"strings"

	"github.com/tendril-cni/tendril/cni/refusal"
)

// TLSOptions are the choices about TLS as they stand on the command line; the
// names are those of Kubernetes' own components.
type TLSOptions struct {
	// MinVersion is VersionTLS12 or VersionTLS13; empty for the former. The
	// newest that both sides speak is used.
	MinVersion string
	// CipherSuites are for TLS 1.2; empty for Go's choice.
	CipherSuites []string
	// Curves are key exchanges in order of preference; empty for Go's choice.
	Curves []string
	// ClientCAs are files with authorities of client certificates. With any, a
	// client has to show a certificate of theirs.
	ClientCAs []string
}

var versions = map[string]uint16{"": tls.VersionTLS12, "VersionTLS12": tls.VersionTLS12, "VersionTLS13": tls.VersionTLS13}

var curves = map[string]tls.CurveID{
	"X25519MLKEM768": tls.X25519MLKEM768, "X25519": tls.X25519,
	"CurveP256": tls.CurveP256, "CurveP384": tls.CurveP384, "CurveP521": tls.CurveP521,
	"P256": tls.CurveP256, "P384": tls.CurveP384, "P521": tls.CurveP521,
}

// Config returns the configuration of a server whose certificate is asked of
// certificate at each handshake.
func (o TLSOptions) Config(certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)) (*tls.Config, error) {
	version, ok := versions[o.MinVersion]
	if !ok {
		return nil, refusal.New("command line", "--tls-min-version", o.MinVersion, "VersionTLS12, VersionTLS13")
	}
	c := &tls.Config{MinVersion: version, GetCertificate: certificate}
	for _, name := range o.CipherSuites {
		id, ok := cipherSuite(name)
		if !ok {
			return nil, refusal.New("command line", "--tls-cipher-suites", name, suiteNames())
		}
		c.CipherSuites = append(c.CipherSuites, id)
	}
	for _, name := range o.Curves {
		id, ok := curves[name]
		if !ok {
			return nil, refusal.New("command line", "--tls-curve-preferences", name, "X25519MLKEM768, X25519, CurveP256, CurveP384, CurveP521")
		}
		c.CurvePreferences = append(c.CurvePreferences, id)
	}
	return c, o.clients(c)
}

func cipherSuite(name string) (uint16, bool) {
	for _, s := range tls.CipherSuites() { // the secure ones
		if s.Name == name {
			return s.ID, true
		}
	}
	return 0, false
}

func suiteNames() string {
	var names []string
	for _, s := range tls.CipherSuites() {
		names = append(names, s.Name)
	}
	return strings.Join(names, ", ")
}

func (o TLSOptions) clients(c *tls.Config) error {
	if len(o.ClientCAs) == 0 {
		return nil
	}
	c.ClientCAs, c.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
	for _, file := range o.ClientCAs {
		text, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("read client authority: %w", err)
		}
		if !c.ClientCAs.AppendCertsFromPEM(text) {
			return refusal.New("command line", "--client-ca", file, "a file with a certificate in PEM")
		}
	}
	return nil
}
