package fault

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Fault is how the API server misbehaves. The zero Fault is none.
type Fault struct {
	// Away refuses connections.
	Away bool
	// Delay passes before each request is looked at.
	Delay time.Duration
	// Code, if not 0, is the answer to a request, which then goes no further.
	Code int
	// Drop lets a write through, and then ends the connection without an answer. A
	// read, which might be a watch, ends at once.
	Drop bool
	// Writes limits Code and Drop to requests that write, Times to so many of
	// them; 0 is all.
	Writes bool
	Times  int
}

// Call is a request that was counted: its method, and its path without a query.
type Call struct{ Method, Path string }

// Proxy stands in front of one API server.
type Proxy struct {
	server  *http.Server
	address net.Addr
	behind  *httputil.ReverseProxy

	mu    sync.Mutex // guards all below
	fault Fault
	calls []Call
	conns map[net.Conn]bool
}

// Options say where a Proxy stands.
type Options struct {
	// Address is host:port to listen on; port 0 is any.
	Address string
	// Cert and Key are files with what it presents, Server's own as a rule.
	Cert, Key string
	// Server is the URL of the API server. Its certificate is not looked at: it
	// is on the same machine.
	Server string
}

// Start starts a proxy. Close ends it.
func Start(o Options) (*Proxy, error) {
	cert, err := tls.LoadX509KeyPair(o.Cert, o.Key)
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	to, err := url.Parse(o.Server)
	if err != nil {
		return nil, fmt.Errorf("read URL of the server: %w", err)
	}
	ln, err := net.Listen("tcp", o.Address)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	p := &Proxy{address: ln.Addr(), behind: httputil.NewSingleHostReverseProxy(to), conns: map[net.Conn]bool{}}
	p.behind.FlushInterval = -1 // watches
	p.behind.ErrorLog = log.New(io.Discard, "", 0)
	p.behind.Transport = &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, MaxIdleConnsPerHost: 100}
	p.server = &http.Server{Handler: p, ConnState: p.track, ErrorLog: p.behind.ErrorLog, ReadHeaderTimeout: time.Minute}
	secure := tls.NewListener(&door{ln, p}, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"http/1.1"}})
	go func() { _ = p.server.Serve(secure) }() // until Close
	return p, nil
}

// Port is the port that the proxy listens on.
func (p *Proxy) Port() int { return p.address.(*net.TCPAddr).Port }

// Close ends the proxy and every connection.
func (p *Proxy) Close() error { return p.server.Close() }

// Set makes f the fault from now on.
func (p *Proxy) Set(f Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = f
	if f.Away {
		for c := range p.conns {
			_ = c.Close()
		}
	}
}

// Calls returns, and forgets, what was counted.
func (p *Proxy) Calls() []Call {
	p.mu.Lock()
	defer p.mu.Unlock()
	calls := p.calls
	p.calls = nil
	return calls
}

// door refuses connections while the server is away.
type door struct {
	net.Listener
	proxy *Proxy
}

// Accept implements net.Listener.
func (d *door) Accept() (net.Conn, error) {
	for {
		c, err := d.Listener.Accept()
		if err != nil {
			return nil, err
		}
		d.proxy.mu.Lock()
		away := d.proxy.fault.Away
		d.proxy.mu.Unlock()
		if !away {
			return c, nil
		}
		_ = c.Close()
	}
}

func (p *Proxy) track(c net.Conn, s http.ConnState) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch s {
	case http.StateNew:
		p.conns[c] = true
	case http.StateClosed, http.StateHijacked:
		delete(p.conns, c)
	}
}

// ServeHTTP implements http.Handler.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f := p.next(r)
	select {
	case <-time.After(f.Delay):
	case <-r.Context().Done():
		return
	}
	switch {
	case f.Code != 0:
		refuse(w, f.Code)
	case f.Drop:
		if r.Method != http.MethodGet {
			// The write must be over before the connection is.
			p.behind.ServeHTTP(nowhere{http.Header{}}, r.WithContext(context.WithoutCancel(r.Context())))
		}
		panic(http.ErrAbortHandler)
	default:
		p.behind.ServeHTTP(w, r)
	}
}

// next counts r and says what becomes of it.
func (p *Proxy) next(r *http.Request) Fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls = append(p.calls, Call{r.Method, r.URL.Path})
	f := p.fault
	if f.Writes && r.Method == http.MethodGet || f.Code == 0 && !f.Drop {
		return Fault{Delay: f.Delay}
	}
	if p.fault.Times > 0 {
		if p.fault.Times--; p.fault.Times == 0 {
			p.fault = Fault{Delay: f.Delay}
		}
	}
	return f
}

// reasons are what the API server calls its answers (metav1.StatusReason).
var reasons = map[int]string{http.StatusConflict: "Conflict", http.StatusTooManyRequests: "TooManyRequests", http.StatusInternalServerError: "InternalError"}

func refuse(w http.ResponseWriter, code int) {
	w.Header().Set("Content-Type", "application/json")
	if code == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", "1")
	}
	w.WriteHeader(code)
	fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","message":"a fault of the test","reason":%q,"code":%d}`, reasons[code], code)
}

// nowhere is an answer that nobody gets.
type nowhere struct{ header http.Header }

func (n nowhere) Header() http.Header         { return n.header }
func (n nowhere) Write(b []byte) (int, error) { return len(b), nil }
func (n nowhere) WriteHeader(int)             {}

// Count counts calls of a method whose path contains part.
func Count(calls []Call, method, part string) (n int) {
	for _, c := range calls {
		if c.Method == method && strings.Contains(c.Path, part) {
			n++
		}
	}
	return n
}
