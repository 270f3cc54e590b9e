package admission

import (
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/tendril-cni/tendril/webhook/certs"
	"github.com/tendril-cni/tendril/webhook/inject"
	"github.com/tendril-cni/tendril/webhook/server"
	"github.com/tendril-cni/tendril/webhook/validate"
)

// Config is what the command line decides.
type Config struct {
	Version    string
	Kubeconfig string
	// Namespace has the Service, the Secret and the switches.
	Namespace string

	BindAddress      string
	Port, HealthPort int
	// CertFile and KeyFile are a pair that somebody else renews; empty to keep
	// one of our own in SecretName.
	CertFile, KeyFile       string
	SecretName, ServiceName string
	// Mutating and Validating are the names of the webhook configurations.
	Mutating, Validating string
	// Policy is about a certificate of our own; its names are made from the
	// Service when empty.
	Policy certs.Policy
	// Interval is how often the certificate is looked at.
	Interval time.Duration
	TLS      server.TLSOptions
	HTTP2    bool
	// Drain is how long reviews are served on after the end was asked for.
	Drain time.Duration

	Injector     inject.Options
	SwitchesName string

	Facts            validate.Facts
	Isolated         bool
	GlobalNamespaces []string
	// Checks judge the kinds of other domains; nil for validate.Domains().
	Checks map[schema.GroupKind]validate.Check

	// Collectors are metrics of others that are served beside the webhooks' own.
	Collectors []prometheus.Collector

	Log *slog.Logger
}

// Defaults returns what holds unless the command line says otherwise.
func Defaults() Config {
	return Config{
		Namespace: "tendril-system", BindAddress: "0.0.0.0", Port: 8443, HealthPort: 8444,
		SecretName: "tendril-webhook-cert", ServiceName: "tendril-webhook",
		Mutating: "tendril", Validating: "tendril",
		Policy: certs.DefaultPolicy, Interval: time.Minute, Drain: 5 * time.Second,
		SwitchesName: "nri-control-switches", GlobalNamespaces: []string{"default"}, // as in the reference meta-plugin
		Facts: validate.Facts{DefaultNamespace: validate.AgentNamespace},
	}
}

// names are the DNS names under which API servers and people call the Service.
func (c Config) names() []string {
	service := c.ServiceName + "." + c.Namespace
	return []string{service + ".svc", service + ".svc.cluster.local", service}
}

func (c Config) listen(port int) (net.Listener, error) {
	ln, err := net.Listen("tcp", net.JoinHostPort(c.BindAddress, strconv.Itoa(port)))
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return ln, nil
}
