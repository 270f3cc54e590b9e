package admission

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/tendril-cni/tendril/webhook"
	"github.com/tendril-cni/tendril/webhook/certs"
	"github.com/tendril-cni/tendril/webhook/kube"
	"github.com/tendril-cni/tendril/webhook/server"
	"github.com/tendril-cni/tendril/webhook/validate"
)

// certificate is what both sources of a serving pair have.
type certificate interface {
	Certificate(*tls.ClientHelloInfo) (*tls.Certificate, error)
	Ready() error
	Expiry() time.Time
}

// Run serves the webhooks until ctx ends, and returns nil then.
func Run(ctx context.Context, cfg Config) error {
	config, err := clientcmd.BuildConfigFromFlags("", cfg.Kubeconfig)
	if err != nil {
		return fmt.Errorf("configure client: %w", err)
	}
	a, err := build(rest.AddUserAgent(config, "tendril-controller"), cfg)
	if err != nil {
		return err
	}
	webhooks, err := cfg.listen(cfg.Port)
	if err != nil {
		return err
	}
	health, err := cfg.listen(cfg.HealthPort)
	if err != nil {
		return errors.Join(err, webhooks.Close())
	}
	a.addr = webhooks.Addr().String()
	return a.run(ctx, webhooks, health)
}

// controller is the parts of one replica.
type controller struct {
	Config
	cache   *kube.Cache
	cert    certificate
	keeper  *certs.Keeper // nil with files
	files   *certs.Files  // nil without
	publish *kube.Registration
	poke    chan struct{} // see look
	server  *server.Server
	metrics *prometheus.Registry
	addr    string
}

func build(config *rest.Config, cfg Config) (*controller, error) {
	a := &controller{Config: cfg, poke: make(chan struct{}, 1), metrics: prometheus.NewRegistry()}
	// A burst of new definitions and pods must not wait for a client's own limit.
	config.QPS, config.Burst = 50, 100
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make client: %w", err)
	}
	if a.cache, err = kube.NewCache(config, a.cacheOptions(), cfg.Log); err != nil {
		return nil, fmt.Errorf("make cache: %w", err)
	}
	condition := func() string { return webhook.MatchCondition(a.cache.Injector().Labels()) }
	a.publish = kube.NewRegistration(client.AdmissionregistrationV1(), cfg.Mutating, cfg.Validating, condition)
	if err := a.certificate(client); err != nil {
		return nil, err
	}
	return a, a.listener()
}

func (a *controller) cacheOptions() kube.Options {
	facts := a.Facts
	if a.Isolated {
		facts.Isolation = &validate.Isolation{Global: a.GlobalNamespaces}
	}
	return kube.Options{Facts: facts, Namespace: a.Namespace, SwitchesName: a.SwitchesName, Injector: a.Injector, OnSwitches: a.look}
}

// look makes the webhook configurations be looked at, at once: they or the switches
// changed.
func (a *controller) look() {
	if a.keeper != nil {
		a.keeper.Poke()
		return
	}
	select {
	case a.poke <- struct{}{}:
	default:
	}
}

func (a *controller) certificate(client kubernetes.Interface) (err error) {
	if a.CertFile != "" {
		a.files, err = certs.NewFiles(a.CertFile, a.KeyFile, 5*time.Second, time.Now, a.Log)
		a.cert = a.files
		return err
	}
	if a.Policy.Names == nil {
		a.Policy.Names = a.names()
	}
	if err := a.Policy.Validate(a.Interval); err != nil {
		return err
	}
	store := kube.NewSecret(client.CoreV1().Secrets(a.Namespace), a.SecretName)
	a.keeper = certs.NewKeeper(store, a.publish, a.Policy, a.Interval, time.Now, a.Log)
	a.cert = a.keeper
	return nil
}

func (a *controller) listener() error {
	config, err := a.TLS.Config(a.cert.Certificate)
	if err != nil {
		return err
	}
	info := prometheus.NewGauge(prometheus.GaugeOpts{Name: "tendril_build_info", Help: "1, with the version.", ConstLabels: prometheus.Labels{"version": a.Version}})
	info.Set(1)
	a.metrics.MustRegister(info, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	a.metrics.MustRegister(a.Collectors...)
	checks := a.Checks
	if checks == nil {
		checks = validate.Domains()
	}
	reviewer := &webhook.Reviewer{Cluster: a.cache, Options: a.cache.Injector, Checks: checks, Log: a.Log}
	a.server = &server.Server{
		Mutate: reviewer.Mutate, Validate: reviewer.Validate, TLS: config, HTTP2: a.HTTP2, Drain: a.Drain, Log: a.Log,
		Metrics: server.NewMetrics(a.metrics, a.cert.Expiry),
	}
	return nil
}

// run is the run group: the first part that fails ends the others.
func (a *controller) run(ctx context.Context, webhooks, health net.Listener) error {
	group, inner := errgroup.WithContext(ctx)
	// Reviews are served on for a while after ctx has ended, and are decided from
	// a cache that is still there.
	late, end := context.WithCancel(context.WithoutCancel(ctx))
	group.Go(func() error { return a.cache.Run(late) })
	group.Go(func() error {
		defer end()
		return a.server.Serve(inner, webhooks)
	})
	group.Go(func() error {
		probes := &server.Health{Alive: a.alive, Ready: func(ctx context.Context) error { return a.ready(ctx, inner) }, Metrics: a.metrics}
		return probes.Serve(late, health)
	})
	group.Go(func() error { return a.keep(inner) })
	group.Go(func() error { return a.publish.Follow(inner, a.look, a.Log) })
	return group.Wait()
}

// keep looks after the certificate and the webhook configurations.
func (a *controller) keep(ctx context.Context) error {
	if a.keeper != nil {
		return a.keeper.Run(ctx)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return a.files.Run(ctx) })
	group.Go(func() error { return a.followSwitches(ctx) })
	return group.Wait()
}

// followSwitches is for a certificate that is not ours: the authority is left
// alone, the condition is not.
func (a *controller) followSwitches(ctx context.Context) error {
	ticker := time.NewTicker(a.Interval)
	defer ticker.Stop()
	for {
		if err := a.publish.Publish(ctx, nil); err != nil && ctx.Err() == nil {
			a.Log.Warn("webhook configuration not looked after, will be tried again", "error", err)
		}
		select {
		case <-ticker.C:
		case <-a.poke:
		case <-ctx.Done():
			return nil
		}
	}
}

// alive returns what a restart might mend.
func (a *controller) alive(context.Context) error {
	if a.keeper != nil {
		return a.keeper.Alive()
	}
	return nil
}

// ready returns why a review sent now might not be answered. ending is the
// context of the run.
func (a *controller) ready(ctx, ending context.Context) error {
	if ending.Err() != nil {
		return errors.New("ending")
	}
	if err := a.cache.Synced(); err != nil {
		return err
	}
	if err := a.cert.Ready(); err != nil {
		return err
	}
	return server.Handshake(ctx, loopback(a.addr))
}

// loopback is addr as this machine reaches it.
func loopback(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if ip := net.ParseIP(host); err != nil || ip != nil && !ip.IsUnspecified() {
		return addr
	}
	if _, err := strconv.Atoi(port); err != nil {
		return addr
	}
	return net.JoinHostPort("127.0.0.1", port)
}
