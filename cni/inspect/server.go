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
// source of that path, GET /several?path=...&path=... by several of them, GET / by
// the list of paths. It closes ln.
func Serve(ctx context.Context, ln net.Listener, sources map[string]Source) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+PathSeveral, func(w http.ResponseWriter, r *http.Request) {
		answer(w, r, func(ctx context.Context, query url.Values) (any, error) {
			return several(ctx, query["path"], sources), nil
		})
	})
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

// several answers each of some paths; one that cannot be answered does not keep
// the others from it.
func several(ctx context.Context, asked []string, sources map[string]Source) map[string]One {
	out := map[string]One{}
	for _, text := range asked {
		v, err := one(ctx, text, sources)
		var encoded []byte
		if err == nil {
			encoded, err = json.Marshal(v)
		}
		if err != nil {
			out[text] = One{Error: err.Error()}
			continue
		}
		out[text] = One{Answer: encoded}
	}
	return out
}

func one(ctx context.Context, text string, sources map[string]Source) (any, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, refusal.New("inspection", "path", text, "a path, with or without a query")
	}
	source := sources[u.Path]
	if source == nil {
		return paths(u.Path, sources)
	}
	return source(ctx, u.Query())
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
