package kube

import (
	"fmt"
	"net/netip"
	"path/filepath"

	"github.com/tendril-cni/tendril/tests/lab/cache"
)

// Options say what Start starts. The zero value is an API server on loopback, on a port of its own,
// that knows network attachment definitions.
type Options struct {
	// Dir keeps state, logs and kubeconfigs. If empty, a temporary directory does until Close.
	Dir string
	// Address is where other machines reach the API server, which then listens on every address. The
	// zero Addr keeps it on loopback.
	Address netip.Addr
	// Port is the API server's; zero means a free one.
	Port uint16
	// Nodes are the names of nodes; each is also a user, the kubelet of that node.
	Nodes []string
	// CRDs are the YAML files of custom resource definitions to install. Nil means those that the
	// repository has in deployment/crds; empty means none.
	CRDs []string
	// Controllers also runs the controller manager and the scheduler. Without them nothing makes the
	// service account that admission wants for each pod, so that check is then off.
	Controllers bool
	// Audit is a group of users whose requests [API.Audited] tells; empty for none.
	Audit string
}

// loopback is the address of an API server that no other machine needs to reach.
var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// bind is the address that the API server listens on.
func (o Options) bind() netip.Addr {
	if o.Address.IsValid() {
		return netip.IPv4Unspecified()
	}
	return loopback
}

// reach is the address that clients use.
func (o Options) reach() netip.Addr {
	if o.Address.IsValid() {
		return o.Address
	}
	return loopback
}

func (o Options) definitions() ([]string, error) {
	if o.CRDs != nil {
		return o.CRDs, nil
	}
	repo, err := cache.Repo()
	if err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(repo, "deployment", "crds", "*.yaml"))
	if err == nil && len(files) == 0 {
		err = fmt.Errorf("no definitions in %s/deployment/crds", repo)
	}
	return files, err
}
