package kube

import (
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/transport"
)

// Options say how hard the API server may be asked. The zero value has the
// defaults.
type Options struct {
	// QPS and Burst bound the requests of one Cache or Reporter per second; 50
	// each by default, as in Multus. A negative QPS is no bound.
	QPS   float32
	Burst int
	// DefinitionWait is how long a definition may be missing before it is taken
	// for unknown: pods are often created in one breath with their networks. 2 s
	// by default.
	DefinitionWait time.Duration
	// PodWait is how long to wait for the watch to tell of a pod that the kubelet
	// starts already. 30 s by default: longer than a slow API server takes, and
	// short enough for the kubelet to try again, and to say why, while the API
	// server is away.
	PodWait time.Duration
	// NoAdded leaves the events AddedInterface out: an ADD is one write then, that
	// of the status, which says the same.
	NoAdded bool
}

func (o Options) withDefaults() Options {
	if o.QPS == 0 {
		o.QPS = 50
	}
	if o.Burst == 0 {
		o.Burst = 50
	}
	if o.DefinitionWait == 0 {
		o.DefinitionWait = 2 * time.Second
	}
	if o.PodWait == 0 {
		o.PodWait = 30 * time.Second
	}
	return o
}

// limit returns a copy of config with the bounds of o. A token from a file is read
// again as soon as the API server does not take it any more; by itself client-go
// looks at the file once a minute, whatever it is answered.
func (o Options) limit(config *rest.Config) *rest.Config {
	c := rest.CopyConfig(config)
	c.QPS, c.Burst, c.RateLimiter = o.QPS, o.Burst, nil
	if file := c.BearerTokenFile; file != "" {
		c.BearerTokenFile, c.BearerToken = "", ""
		c.Wrap(transport.ResettableTokenSourceWrapTransport(transport.NewCachedFileTokenSource(file)))
	}
	return rest.AddUserAgent(c, "tendrild")
}
