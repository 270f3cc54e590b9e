package kube

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/tendril-cni/tendril/tests/lab/programs"
)

// API is a running control plane.
type API struct {
	options   Options
	kubelab   string // the program
	dir       string
	temporary bool // dir is ours to remove
	port      *port

	etcd        *process
	server      *process // nil while stopped
	controllers []*process
}

// Start starts a control plane and returns when it is ready. The first call on a machine builds
// Kubernetes, which takes minutes.
func Start(ctx context.Context, o Options) (*API, error) {
	built, err := programs.Kubernetes(ctx)
	if err != nil {
		return nil, fmt.Errorf("start api server: %w", err)
	}
	a := &API{options: o, kubelab: built.Kubelab, dir: o.Dir}
	if err := a.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start api server: %w", err), a.Close())
	}
	return a, nil
}

func (a *API) start(ctx context.Context) (err error) {
	if err := a.makeDir(); err != nil {
		return err
	}
	if a.port, err = reserve(a.options.bind(), a.options.Port); err != nil {
		return err
	}
	ca, err := writeCerts(a.dir, a.options.reach())
	if err != nil {
		return err
	}
	if err := writeUsers(a.dir, users(a.options.Nodes), a.URL(), ca); err != nil {
		return err
	}
	if err := errors.Join(a.linkKubectl(), a.writeAuditPolicy()); err != nil {
		return err
	}
	if a.etcd, err = a.launch("etcd", etcdFlags()...); err != nil {
		return err
	}
	if err := a.Start(ctx); err != nil {
		return err
	}
	files, err := a.options.definitions()
	if err != nil {
		return err
	}
	if err := a.InstallCRDs(ctx, files...); err != nil {
		return err
	}
	return a.startControllers()
}

func (a *API) makeDir() (err error) {
	if a.dir == "" {
		a.dir, err = os.MkdirTemp("", "tendril-kube-")
		a.temporary = true
		return err
	}
	if a.dir, err = filepath.Abs(a.dir); err != nil {
		return err
	}
	return os.MkdirAll(a.dir, 0o755)
}

func (a *API) startControllers() error {
	if !a.options.Controllers {
		return nil
	}
	for name, flags := range map[string][]string{
		"kube-controller-manager": controllerFlags(a.Kubeconfig(ControllerManager)),
		"kube-scheduler":          schedulerFlags(a.Kubeconfig(Scheduler)),
	} {
		p, err := a.launch(name, flags...)
		if err != nil {
			return err
		}
		a.controllers = append(a.controllers, p)
	}
	return nil
}

func (a *API) launch(name string, flags ...string) (*process, error) {
	return launch(a.kubelab, a.dir, name, flags...)
}

// Start starts the API server again after Stop, over the same data and at the same address, and
// returns when it is ready.
func (a *API) Start(ctx context.Context) (err error) {
	if a.server != nil {
		return errors.New("start api server: it runs")
	}
	if a.server, err = a.launch("kube-apiserver", a.serverFlags()...); err != nil {
		return err
	}
	return a.awaitReady(ctx)
}

// Stop kills the API server alone, as a crash would: connections break at once and new ones are
// refused until Start.
func (a *API) Stop() {
	if a.server != nil {
		a.server.kill()
		a.server = nil
	}
}

// Close ends the control plane and gives up its port.
func (a *API) Close() error {
	for _, p := range a.controllers {
		p.kill()
	}
	a.Stop()
	if a.etcd != nil {
		a.etcd.kill()
	}
	var err error
	if a.port != nil {
		err = a.port.release()
	}
	if a.temporary && a.dir != "" {
		err = errors.Join(err, os.RemoveAll(a.dir))
	}
	return err
}

// URL is the API server's address for any client that can reach it.
func (a *API) URL() string {
	return fmt.Sprintf("https://%s:%d", a.options.reach(), a.port.number)
}

// Dir is where the API keeps its kubeconfigs and where each server has its log, <server>.log.
func (a *API) Dir() string { return a.dir }

// ServingCert is the paths of the API server's certificate and its key.
func (a *API) ServingCert() (cert, key string) {
	return filepath.Join(a.dir, serverCert), filepath.Join(a.dir, serverKey)
}

// Kubeconfig is the path of a user's kubeconfig, which needs no other file.
func (a *API) Kubeconfig(user string) string { return kubeconfigPath(a.dir, user) }

// RESTConfig is the configuration of a client for a user, without the limit on requests per second
// that clients set themselves.
func (a *API) RESTConfig(user string) (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", a.Kubeconfig(user))
	if err != nil {
		return nil, fmt.Errorf("configure a client for %s: %w", user, err)
	}
	config.Proxy = func(*http.Request) (*url.URL, error) { return nil, nil }
	config.QPS = -1
	return config, nil
}
