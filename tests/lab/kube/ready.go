package kube

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"k8s.io/client-go/rest"
)

const (
	readyWithin = time.Minute // two seconds on an idle machine
	pollEvery   = 50 * time.Millisecond
)

// awaitReady returns when the API server is ready and has made the namespace that everybody uses.
func (a *API) awaitReady(ctx context.Context) error {
	config, err := a.RESTConfig(Admin)
	if err != nil {
		return err
	}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	defer client.CloseIdleConnections()
	for _, path := range []string{"/readyz", "/api/v1/namespaces/default"} {
		err := a.poll(ctx, func(ctx context.Context) error { return probe(ctx, client, a.URL()+path) })
		if err != nil {
			return fmt.Errorf("wait for %s: %w", path, err)
		}
	}
	return nil
}

// poll repeats try until it succeeds, a server dies or time is up, and then returns the last error.
func (a *API) poll(ctx context.Context, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		for _, p := range []*process{a.etcd, a.server} {
			if dead := p.failure(); dead != nil {
				return dead
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w; last: %w", ctx.Err(), err)
		case <-ticker.C:
		}
	}
}

// probe asks for a URL and wants OK.
func probe(ctx context.Context, client *http.Client, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		said, _ := io.ReadAll(io.LimitReader(response.Body, 4<<10))
		return fmt.Errorf("%s: %s", response.Status, said)
	}
	return nil
}
