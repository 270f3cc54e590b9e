package certs

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// Files serves with a pair of files that somebody else renews.
type Files struct {
	cert, key string
	interval  time.Duration
	now       func() time.Time
	log       *slog.Logger

	mu          sync.RWMutex // guards what follows
	certPEM     []byte
	keyPEM      []byte
	certificate *tls.Certificate
}

// NewFiles returns Files that serve with the pair in the files cert and key,
// which it reads now and then every interval. now is the clock. A pair that
// cannot be read now is an error.
func NewFiles(cert, key string, interval time.Duration, now func() time.Time, log *slog.Logger) (*Files, error) {
	f := &Files{cert: cert, key: key, interval: interval, now: now, log: log}
	return f, f.Step()
}

// Run follows the files until ctx ends, and returns nil then. It looks at their
// content and not at the way they are replaced, which differs.
func (f *Files) Run(ctx context.Context) error {
	ticker := time.NewTicker(f.interval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
		if err := f.Step(); err != nil {
			f.log.Warn("webhook certificate kept, the new one cannot be used", "error", err)
		}
	}
}

// Step reads the files. A pair that does not belong together, as between two
// renames, leaves the old one in place.
func (f *Files) Step() error {
	certPEM, err := os.ReadFile(f.cert)
	if err != nil {
		return fmt.Errorf("read certificate: %w", err)
	}
	keyPEM, err := os.ReadFile(f.key)
	if err != nil {
		return fmt.Errorf("read key: %w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if bytes.Equal(certPEM, f.certPEM) && bytes.Equal(keyPEM, f.keyPEM) {
		return nil
	}
	c, err := pair(certPEM, keyPEM)
	if err != nil {
		return fmt.Errorf("read pair %s, %s: %w", f.cert, f.key, err)
	}
	f.certificate, f.certPEM, f.keyPEM = c, certPEM, keyPEM
	f.log.Info("webhook certificate read", "file", f.cert, "until", c.Leaf.NotAfter)
	return nil
}

// Certificate returns the pair to serve with; it is for tls.Config.
func (f *Files) Certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.certificate, nil
}

// Expiry returns until when the pair is valid.
func (f *Files) Expiry() time.Time {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.certificate.Leaf.NotAfter
}

// Ready returns nil while the pair is valid.
func (f *Files) Ready() error {
	if end := f.Expiry(); f.now().After(end) {
		return fmt.Errorf("webhook certificate expired at %s", end.Format(time.RFC3339))
	}
	return nil
}
