package inspect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/tendril-cni/tendril/cni/refusal"
)

// SocketName is the socket's name in the daemon's run directory.
const SocketName = "inspect.sock"

// answerTime bounds one answer: a kubelet that hangs must not hold a connection.
const answerTime = 10 * time.Second

// Source finds out one answer, which is then encoded as JSON. It only reads. A
// refusal.Refusal is the asker's mistake, any other error ours.
type Source func(ctx context.Context, query url.Values) (any, error)

// Serve answers on ln until ctx ends, and returns nil then: GET /<path> by the
// source of that path, GET / by the list of paths. It closes ln.
func Serve(ctx context.Context, ln net.Listener, sources map[string]Source) error {
	mux := http.NewServeMux()
	for path, source := range sources {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) { answer(w, r, source) })
	}
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		answer(w, r, func(context.Context, url.Values) (any, error) { return paths(r.URL.Path, sources) })
	})
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: answerTime}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve inspection: %w", err)
	}
	return nil
}

// paths is the answer to what is no path.
func paths(path string, sources map[string]Source) (any, error) {
	known := slices.Sorted(maps.Keys(sources))
	if path != "/" {
		return nil, refusal.New("inspection", "path", path, fmt.Sprint(known))
	}
	return known, nil
}

func answer(w http.ResponseWriter, r *http.Request, source Source) {
	ctx, cancel := context.WithTimeout(r.Context(), answerTime)
	defer cancel()
	v, err := source(ctx, r.URL.Query())
	var text []byte
	if err == nil {
		text, err = json.MarshalIndent(v, "", "  ")
	}
	var refused *refusal.Refusal
	switch {
	case errors.As(err, &refused):
		http.Error(w, err.Error(), http.StatusBadRequest)
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	default:
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(append(text, '\n'))
	}
}
