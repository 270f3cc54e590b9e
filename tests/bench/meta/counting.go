package main

import (
	"errors"
	"fmt"

	"github.com/tendril-cni/tendril/tests/bench/host"
	"github.com/tendril-cni/tendril/tests/meta/fault"
)

// counting is what stands around a side while it is counted: a proxy for its calls
// to the API server, and a control group for its memory. The zero value is neither.
type counting struct {
	proxy *fault.Proxy
	group *host.Group
	// noGroup says why there is a proxy and no group.
	noGroup error
}

// count makes what counts one side. A machine that has no control groups to give
// away is no error: what they would say is left out.
func (s *stand) count(name string) (c counting, err error) {
	cert, key := s.api.ServingCert()
	c.proxy, err = fault.Start(fault.Options{Address: "127.0.0.1:0", Cert: cert, Key: key, Server: s.api.URL()})
	if err == nil {
		c.group, c.noGroup = host.NewGroup(name)
	}
	return c, err
}

func (c counting) close() error {
	var err error
	if c.proxy != nil {
		err = c.proxy.Close()
	}
	return errors.Join(err, c.group.Close())
}

// charged says what the side's control group is charged, or why nobody knows.
func (c counting) charged() (string, error) {
	if c.group == nil {
		return fmt.Sprintf("its control group is not known: %v", c.noGroup), nil
	}
	charge, err := c.group.Charge()
	if err != nil {
		return "", err
	}
	mib := func(bytes int) float64 { return float64(bytes) / (1 << 20) }
	return fmt.Sprintf("its control group is charged %.1f MiB, %.1f MiB of that anonymous, %.1f MiB the kernel's, the rest its executable and its tmpfs; %.1f MiB at most",
		mib(charge.Now), mib(charge.Anonymous), mib(charge.Kernel), mib(charge.Most)), nil
}
