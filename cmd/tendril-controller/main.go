// Command tendril-controller serves Tendril's admission webhooks and reclaims the
// cluster's addresses. See
// ARCHITECTURE.md.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/sync/errgroup"
	"k8s.io/klog/v2"

	"github.com/tendril-cni/tendril/cmd/apicalls"
	"github.com/tendril-cni/tendril/cmd/tendril-controller/addresses"
	"github.com/tendril-cni/tendril/cmd/tendril-controller/admission"
	"github.com/tendril-cni/tendril/cni/refusal"
	"github.com/tendril-cni/tendril/webhook/validate"
)

// version is set by the linker.
var version = "dev"

func main() {
	cfg, level, done := flags()
	if done {
		return
	}
	cfg.Log = slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	klog.SetSlogLogger(cfg.Log) // what libraries say has the same form
	cfg.Version = version
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	cfg.Log.Info("tendril-controller starts", "version", version)
	if err := run(ctx, cfg); err != nil {
		cfg.Log.Error("tendril-controller ends", "error", err)
		os.Exit(1)
	}
}

// run is the run group: the first part that fails ends the other.
func run(ctx context.Context, cfg admission.Config) error {
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("read the replica's name: %w", err)
	}
	ranges := addresses.NewRanges()
	cfg.Collectors = append(cfg.Collectors, ranges)
	cfg.Collectors = append(cfg.Collectors, apicalls.Collectors()...)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return admission.Run(ctx, cfg) })
	group.Go(func() error {
		return addresses.Run(ctx, addresses.Options{Kubeconfig: cfg.Kubeconfig, Namespace: cfg.Namespace, Identity: host, Ranges: ranges, Log: cfg.Log})
	})
	return group.Wait()
}

// flags reads the command line. done means that the answer was printed. The
// flags of the network resources injector keep their names and meanings.
func flags() (cfg admission.Config, level slog.Level, done bool) {
	cfg = admission.Defaults()
	fs := flag.NewFlagSet("tendril-controller", flag.ExitOnError)
	fs.StringVar(&cfg.Kubeconfig, "kubeconfig", "", "kubeconfig file; empty for the in-cluster configuration")
	fs.StringVar(&cfg.Namespace, "namespace", envOr("NAMESPACE", cfg.Namespace), "where the controller's own Service, Secret and ConfigMaps are")
	fs.TextVar(&level, "log-level", slog.LevelInfo, "debug, info, warn or error")
	serving(fs, &cfg)
	injecting(fs, &cfg)
	judging(fs, &cfg)
	show := fs.Bool("version", false, "print the version")
	_ = fs.Parse(os.Args[1:]) // ExitOnError
	if *show || fs.Arg(0) == "version" {
		fmt.Println("tendril-controller", version)
		return cfg, level, true
	}
	if err := whole(fs, cfg); err != nil {
		fmt.Fprintln(fs.Output(), err)
		os.Exit(2) // as a flag that there is not
	}
	return cfg, level, false
}

// whole refuses a command line of which a part would be passed over: what stands
// behind the first word that is no flag, and half a pair of files.
func whole(fs *flag.FlagSet, cfg admission.Config) error {
	const object = "command line"
	switch {
	case fs.NArg() > 0:
		return refusal.New(object, "argument", fs.Arg(0), "none: flags alone; a switch has its value behind =, as in --strict=true")
	case cfg.CertFile == "" && cfg.KeyFile != "":
		return refusal.New(object, "--tls-cert-file", "", "the certificate that --tls-private-key-file "+cfg.KeyFile+" belongs to")
	case cfg.CertFile != "" && cfg.KeyFile == "":
		return refusal.New(object, "--tls-private-key-file", "", "the key of --tls-cert-file "+cfg.CertFile)
	}
	return nil
}

func serving(fs *flag.FlagSet, cfg *admission.Config) {
	fs.StringVar(&cfg.BindAddress, "bind-address", cfg.BindAddress, "address of the webhooks' listener")
	fs.IntVar(&cfg.Port, "port", cfg.Port, "port of the webhooks' listener")
	fs.IntVar(&cfg.HealthPort, "health-check-port", cfg.HealthPort, "port of /healthz, /readyz and /metrics, plain HTTP")
	fs.StringVar(&cfg.CertFile, "tls-cert-file", "", "certificate that somebody else renews (cert-manager, a service CA); empty to keep one of our own")
	fs.StringVar(&cfg.KeyFile, "tls-private-key-file", "", "key of -tls-cert-file")
	fs.StringVar(&cfg.SecretName, "cert-secret", cfg.SecretName, "Secret that keeps the certificate of our own")
	fs.DurationVar(&cfg.Policy.CAValidity, "cert-ca-validity", cfg.Policy.CAValidity, "lifetime of our own authority; the next one comes when a third is left")
	fs.DurationVar(&cfg.Policy.LeafValidity, "cert-validity", cfg.Policy.LeafValidity, "lifetime of our own certificate; the next one comes when a third is left")
	fs.DurationVar(&cfg.Policy.Overlap, "cert-overlap", cfg.Policy.Overlap, "how long API servers and replicas may take to learn of a new authority or certificate")
	fs.DurationVar(&cfg.Interval, "cert-interval", cfg.Interval, "how often the certificate and the webhook configurations are looked at")
	fs.StringVar(&cfg.ServiceName, "service", cfg.ServiceName, "Service by which API servers reach the webhooks")
	fs.StringVar(&cfg.TLS.MinVersion, "tls-min-version", "VersionTLS12", "VersionTLS12 or VersionTLS13")
	fs.Func("tls-cipher-suites", "cipher suites for TLS 1.2, comma separated; Go's choice without", list(&cfg.TLS.CipherSuites))
	fs.Func("tls-curve-preferences", "key exchanges, comma separated; Go's choice without", list(&cfg.TLS.Curves))
	fs.Func("client-ca", "file with the authority of client certificates, repeatable; with any, clients have to show one", func(s string) error {
		cfg.TLS.ClientCAs = append(cfg.TLS.ClientCAs, s)
		return nil
	})
	for _, glog := range []string{"logtostderr", "alsologtostderr"} {
		fs.Bool(glog, true, "accepted for the injector's command lines: logs go to standard error")
	}
	fs.Int("v", 0, "accepted for the injector's command lines: see -log-level")
	fs.Bool("insecure", false, "accepted for the injector's command lines: without -client-ca no client certificate is asked for")
	fs.BoolVar(&cfg.HTTP2, "enable-http2", false, "offer HTTP/2 as well")
}

func injecting(fs *flag.FlagSet, cfg *admission.Config) {
	fs.BoolVar(&cfg.Injector.Hugepages, "injectHugepageDownApi", false, "tell pods about their huge pages in podnetinfo")
	fs.BoolVar(&cfg.Injector.Honor, "honor-resources", false, "add to the resources that the first container asks for")
	fs.Func("network-resource-name-keys", "annotations of definitions that name a resource, comma separated (default "+validate.ResourceAnnotation+")", list(&cfg.Facts.ResourceKeys))
	fs.StringVar(&cfg.SwitchesName, "control-switches", cfg.SwitchesName, "ConfigMap that overrides the injector's flags")
}

func judging(fs *flag.FlagSet, cfg *admission.Config) {
	fs.BoolVar(&cfg.Isolated, "namespace-isolation", false, "pods may use definitions of their own namespace and of -global-namespaces only")
	fs.Func("global-namespaces", "namespaces whose definitions all pods may use, comma separated (default default)", list(&cfg.GlobalNamespaces))
	fs.StringVar(&cfg.Facts.DefaultNamespace, "multus-namespace", cfg.Facts.DefaultNamespace, "where a default network is looked for that is named without namespace")
	fs.StringVar(&cfg.Facts.DefaultInterface, "default-interface", "eth0", "interface of the default network in pods")
	fs.Func("service-cidr", "network of the cluster's Services, comma separated; definitions that overlap it are warned about", func(s string) error {
		for text := range strings.SplitSeq(s, ",") {
			p, err := netip.ParsePrefix(text)
			if err != nil {
				return err
			}
			cfg.Facts.ServiceNets = append(cfg.Facts.ServiceNets, p)
		}
		return nil
	})
	fs.BoolVar(&cfg.Facts.Strict, "strict", false, "deny what is otherwise warned about: plugins that no node has, one network name for two networks of a namespace")
}

// list reads comma separated words.
func list(into *[]string) func(string) error {
	return func(s string) error {
		*into = strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
		return nil
	}
}

func envOr(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}
