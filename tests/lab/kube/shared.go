package kube

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"

	"k8s.io/client-go/rest"
)

// Shared is one API server for all tests of a package, who keep to names of their
// own in it. It starts when the first test asks and ends with Main:
//
//	var server kube.Shared
//
//	func TestMain(m *testing.M) { server.Main(m) }
//
// It may be used by concurrent tests.
type Shared struct {
	Options Options

	once sync.Once
	api  *API
	err  error
}

// API returns the server, running.
func (s *Shared) API(t testing.TB) *API {
	t.Helper()
	s.once.Do(func() { s.api, s.err = Start(context.Background(), s.Options) })
	if s.err != nil {
		t.Fatal(s.err)
	}
	return s.api
}

// Config is how [Admin] speaks to the server, a copy for the caller.
func (s *Shared) Config(t testing.TB) *rest.Config {
	t.Helper()
	config, err := s.API(t).RESTConfig(Admin)
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// Main runs the package's tests and ends the process, the server before it.
func (s *Shared) Main(m *testing.M) {
	code := m.Run()
	if s.api != nil {
		if err := s.api.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}
