package inspect

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
)

// Ask asks the daemon at a socket for a path, which may have a query, and returns
// its answer: JSON.
func Ask(ctx context.Context, socket, path string) ([]byte, error) {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	defer transport.CloseIdleConnections()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://tendrild/"+strings.TrimPrefix(path, "/"), nil)
	if err != nil {
		return nil, fmt.Errorf("ask for %s: %w", path, err)
	}
	reply, err := transport.RoundTrip(r)
	if err != nil {
		return nil, fmt.Errorf("ask the daemon at %s: %w", socket, err)
	}
	defer reply.Body.Close()
	text, err := io.ReadAll(reply.Body)
	if err != nil {
		return nil, fmt.Errorf("read the answer to %s: %w", path, err)
	}
	if reply.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("ask for %s: %s", path, strings.TrimSpace(string(text)))
	}
	return text, nil
}
