package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// Paths of the webhooks.
const (
	MutatePath   = "/mutate"
	ValidatePath = "/validate"
)

// Server is the HTTPS listener of the webhooks.
type Server struct {
	Mutate, Validate Review
	Metrics          *Metrics
	// TLS has GetCertificate; see TLSOptions.
	TLS *tls.Config
	// HTTP2 offers HTTP/2 as well.
	HTTP2 bool
	// Drain is how long reviews are served on after the context has ended: API
	// servers learn late that an endpoint is gone.
	Drain time.Duration
	Log   *slog.Logger
}

// Handler answers the paths of the webhooks.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle(MutatePath, handler("mutate", s.Mutate, s.Metrics))
	mux.Handle(ValidatePath, handler("validate", s.Validate, s.Metrics))
	return mux
}

// Serve answers reviews on ln until ctx ends, and returns nil then, after the
// reviews under way were answered.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	handler := &draining{next: s.Handler()}
	srv := &http.Server{
		Handler: handler, TLSConfig: s.TLS.Clone(), Protocols: &http.Protocols{},
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute,
		// Port scans and API servers with an old bundle are not worth a line each.
		ErrorLog: log.New(debugWriter{s.Log}, "", 0),
	}
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetHTTP2(s.HTTP2)
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		handler.on.Store(true)
		s.shutdown(srv)
	})
	err := srv.ServeTLS(ln, "", "")
	if stop() {
		return fmt.Errorf("serve webhooks: %w", err) // it ended by itself
	}
	<-stopped
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve webhooks: %w", err)
	}
	return nil
}

func (s *Server) shutdown(srv *http.Server) {
	drained := time.NewTimer(s.Drain)
	defer drained.Stop()
	<-drained.C
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := srv.Shutdown(ctx); err != nil {
		s.Log.Warn("reviews under way cut off", "error", err)
	}
}

// draining has each client look for another replica with its next request: a
// kept connection would otherwise be in use at the moment that it is cut.
type draining struct {
	next http.Handler
	on   atomic.Bool
}

// ServeHTTP implements http.Handler.
func (d *draining) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if d.on.Load() {
		w.Header().Set("Connection", "close") // net/http turns it into GOAWAY for HTTP/2
	}
	d.next.ServeHTTP(w, r)
}

// debugWriter turns the lines of net/http into debug messages.
type debugWriter struct{ log *slog.Logger }

func (w debugWriter) Write(p []byte) (int, error) {
	w.log.Debug("webhook connection", "error", string(p))
	return len(p), nil
}
