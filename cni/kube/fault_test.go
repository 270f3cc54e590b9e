package kube_test

import (
	"fmt"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"github.com/tendril-cni/tendril/cni/kube"
	"github.com/tendril-cni/tendril/tests/meta/fault"
)

// TestEverythingGoesThroughAnAPIServerWithFaults: reads, watches and writes, from
// the first list on.
func TestEverythingGoesThroughAnAPIServerWithFaults(t *testing.T) {
	for name, f := range map[string]fault.Fault{
		"slow":              {Delay: 700 * time.Millisecond},
		"conflict":          {Code: 409, Times: 5},
		"too many requests": {Code: 429, Times: 5},
		"internal error":    {Code: 500, Times: 5},
		"answers lost":      {Drop: true, Times: 5},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // they wait, most of the time
			w := newWorld(t)
			w.define("vlan", "{}", "")
			proxy := w.behind(f)
			r, _ := w.reporter(w.cache(kube.Options{}), nil)
			pod := w.create("web", node, nil)
			c := w.cache(kube.Options{})
			if _, err := c.Pod(w.within(patience), w.namespace, "web", string(pod.UID)); err != nil {
				t.Error(err)
			}
			if _, err := c.Definition(w.within(patience), w.namespace, "vlan"); err != nil {
				t.Error(err)
			}
			r.Publish(ref(pod), entry("cbr0"))
			w.eventually("the status is there", func() bool { return names(t, w.status("web")) == "cbr0" })
			if calls := proxy.Calls(); fault.Count(calls, "GET", "/pods") < 2 || fault.Count(calls, "PATCH", "/pods/web") == 0 {
				t.Errorf("the requests went past the faults: %v", calls)
			}
		})
	}
}

// behind puts a proxy with that fault between the API server and what is made from
// now on.
func (w *world) behind(f fault.Fault) *fault.Proxy {
	w.t.Helper()
	cert, key := w.api.ServingCert()
	p, err := fault.Start(fault.Options{Address: "127.0.0.1:0", Cert: cert, Key: key, Server: w.api.URL()})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = p.Close() })
	p.Set(f)
	w.config = rest.CopyConfig(w.config)
	w.config.Host = fmt.Sprintf("https://127.0.0.1:%d", p.Port())
	return p
}
