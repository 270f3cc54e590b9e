package kube_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/client-go/rest"
)

// faults stands between one node and the API server and behaves like a bad
// network and a server under pressure.
type faults struct {
	// rate is the share of calls that go wrong, in percent.
	rate atomic.Int64
	// cut is a partition: nothing gets through.
	cut atomic.Bool
	// readOnly is a server that has no room for writes; refused counts them.
	readOnly atomic.Bool
	refused  atomic.Int64
	// weak takes the condition out of every update: what the proofs must notice.
	weak atomic.Bool
	// late counts calls that are held up, and go on although nobody may wait for
	// them any more.
	late atomic.Int64
	// counts are the calls that reached the API server, by method and "LIST".
	mu     sync.Mutex
	counts map[string]int
}

func (f *faults) wrap(config *rest.Config) *rest.Config {
	c := rest.CopyConfig(config)
	c.Wrap(func(next http.RoundTripper) http.RoundTripper { return &link{faults: f, next: next} })
	return c
}

type link struct {
	*faults
	next http.RoundTripper
}

var errCut = errors.New("network is unreachable")

func (l *link) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
		_ = r.Body.Close()
	}
	if l.cut.Load() {
		return nil, errCut
	}
	if l.readOnly.Load() && r.Method != http.MethodGet {
		l.refused.Add(1)
		return status(r, http.StatusTooManyRequests, "TooManyRequests"), nil
	}
	if rand.Int64N(100) >= l.rate.Load() {
		return l.send(r.Context(), r, body)
	}
	switch rand.IntN(8) {
	case 0:
		return status(r, http.StatusConflict, "Conflict"), nil
	case 1:
		return status(r, http.StatusTooManyRequests, "TooManyRequests"), nil
	case 2:
		return status(r, http.StatusInternalServerError, "InternalError"), nil
	case 3: // committed, and the answer says otherwise
		_, _ = l.drain(r, body)
		return status(r, http.StatusInternalServerError, "InternalError"), nil
	case 4: // committed, and repeated by something on the way
		if r.Method != http.MethodGet {
			_, _ = l.drain(r, body)
		}
		return l.send(r.Context(), r, body)
	case 5: // committed, and the answer is lost
		_, _ = l.drain(r, body)
		return nil, io.ErrUnexpectedEOF
	default: // held up, and perhaps delivered when nobody waits any more
		return l.stall(r, body, time.Duration(rand.IntN(1200))*time.Millisecond)
	}
}

// stall delivers the call later, whether its sender waits or not.
func (l *link) stall(r *http.Request, body []byte, d time.Duration) (*http.Response, error) {
	type answer struct {
		resp *http.Response
		err  error
	}
	got := make(chan answer, 1)
	l.late.Add(1)
	go func() {
		defer l.late.Add(-1)
		time.Sleep(d)
		resp, err := l.drain(r, body)
		got <- answer{resp, err}
	}()
	select {
	case a := <-got:
		return a.resp, a.err
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

// drain sends a call that its sender cannot cancel and reads the whole answer.
func (l *link) drain(r *http.Request, body []byte) (*http.Response, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), 10*time.Second)
	defer cancel()
	resp, err := l.send(ctx, r, body)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader(data))
	return resp, err
}

func (l *link) send(ctx context.Context, r *http.Request, body []byte) (*http.Response, error) {
	l.count(r)
	if l.weak.Load() && r.Method == http.MethodPut {
		body = l.unconditional(ctx, r, body)
	}
	out := r.Clone(ctx)
	if body != nil {
		out.Body, out.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	}
	return l.next.RoundTrip(out)
}

// unconditional gives an update the version that the object has right now.
func (l *link) unconditional(ctx context.Context, r *http.Request, body []byte) []byte {
	read := r.Clone(ctx)
	read.Method, read.Body, read.ContentLength = http.MethodGet, nil, 0
	resp, err := l.next.RoundTrip(read)
	if err != nil {
		return body
	}
	defer resp.Body.Close()
	type meta struct {
		Metadata map[string]any `json:"metadata"`
	}
	var now meta
	var object map[string]any
	if json.NewDecoder(resp.Body).Decode(&now) != nil || json.Unmarshal(body, &object) != nil {
		return body
	}
	object["metadata"] = now.Metadata
	out, err := json.Marshal(object)
	if err != nil {
		return body
	}
	return out
}

func (l *link) count(r *http.Request) {
	what := r.Method
	if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/addressblocks") {
		what = "LIST"
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.counts == nil {
		l.counts = map[string]int{}
	}
	l.counts[what]++
}

// calls returns how many calls of a kind reached the API server.
func (f *faults) calls(what string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.counts[what]
}

func status(r *http.Request, code int, reason string) *http.Response {
	text := fmt.Sprintf(`{"kind":"Status","apiVersion":"v1","status":"Failure","message":"injected","reason":%q,"code":%d}`, reason, code)
	return &http.Response{
		StatusCode: code, Status: http.StatusText(code), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(text)), ContentLength: int64(len(text)),
	}
}
