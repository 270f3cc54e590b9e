package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Health answers probes and /metrics.
type Health struct {
	// Alive and Ready return what is wrong, nil for nothing.
	Alive, Ready func(context.Context) error
	Metrics      prometheus.Gatherer
}

// Serve answers on ln until ctx ends, and returns nil then.
func (h *Health) Serve(ctx context.Context, ln net.Listener) error {
	mux := http.NewServeMux()
	mux.Handle("/healthz", probe(h.Alive))
	mux.Handle("/readyz", probe(h.Ready))
	mux.Handle("/metrics", promhttp.HandlerFor(h.Metrics, promhttp.HandlerOpts{}))
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve health: %w", err)
	}
	return nil
}

func probe(check func(context.Context) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := check(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
}

// mostHandshake is for who asks without a limit of its own. A probe has one, and
// nothing shorter is of use: a replica that is only slow must not be taken away
// from the others, which are as busy.
const mostHandshake = 30 * time.Second

// Handshake returns nil when a TLS handshake with the listener at addr succeeds
// before ctx ends. Whether the certificate is trusted is not its business: that
// depends on who asks.
func Handshake(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, mostHandshake)
	defer cancel()
	d := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("handshake with own listener: %w", err)
	}
	return c.Close()
}
