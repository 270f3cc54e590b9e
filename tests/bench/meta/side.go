package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/tendril-cni/tendril/tests/bench/host"
)

// side is one of the two, with a node of its own.
type side struct {
	name    string
	process *host.Process
	caller  host.Caller
	made    int // pods so far, for their names
	counting
}

func (s *stand) startTendril(ctx context.Context, config *rest.Config, around counting) (*side, error) {
	dir := filepath.Join(s.dir, "tendril")
	network, err := json.Marshal(map[string]any{"cniVersion": host.CNIVersion, "name": "tendril", "plugins": []any{bridge("tendril", "10.51.0.0/16")}})
	if err != nil {
		return nil, err
	}
	kubeconfig := filepath.Join(s.dir, "tendril.kubeconfig")
	err = clientcmd.WriteToFile(clientapi.Config{
		Clusters:       map[string]*clientapi.Cluster{"c": {Server: config.Host, CertificateAuthorityData: config.CAData}},
		AuthInfos:      map[string]*clientapi.AuthInfo{"u": {Token: config.BearerToken}},
		Contexts:       map[string]*clientapi.Context{"c": {Cluster: "c", AuthInfo: "u"}},
		CurrentContext: "c",
	}, kubeconfig)
	if err != nil {
		return nil, err
	}
	t, err := host.StartTendril(ctx, host.Options{Bin: s.bin, Dir: dir, Kubeconfig: kubeconfig, Node: "tendril", Default: network, Plugins: s.plugins, HostLocal: hostLocalDir, Flags: s.flags, Group: around.group})
	if err != nil {
		return nil, err
	}
	return &side{name: "tendril", process: t.Process, caller: t.Caller}, nil
}

// multusSocket is the directory of its socket, on the tmpfs as on a host.
const multusSocket = "/run/multus"

// startMultus runs the daemon with what its manifest configures: the shim is
// found in dir, the API server as from inside of a pod.
func (s *stand) startMultus(ctx context.Context, config *rest.Config, around counting) (*side, error) {
	dir := filepath.Join(s.dir, "multus")
	// No list: this release forgets the ranges of a list's IPAM before it deletes.
	single := bridge("multus", "10.52.0.0/16")
	single["cniVersion"], single["name"] = host.CNIVersion, "multus"
	network, err := json.Marshal(single)
	if err != nil {
		return nil, err
	}
	daemon, err := json.Marshal(map[string]any{
		"cniVersion": host.CNIVersion, "logLevel": "error", "logToStderr": true, "socketDir": multusSocket,
		"cniConfigDir": dir, "multusAutoconfigDir": dir, "multusConfigFile": "auto",
		"cniDir": "/run/multus-cni", "binDir": s.plugins,
	})
	if err != nil {
		return nil, err
	}
	const account = "/run/secrets/kubernetes.io/serviceaccount"
	server, err := url.Parse(config.Host)
	if err == nil {
		err = errors.Join(os.MkdirAll(dir, 0o755), os.MkdirAll(account, 0o755))
	}
	for path, data := range map[string][]byte{
		filepath.Join(dir, "10-default.conf"): network, filepath.Join(s.dir, "daemon-config.json"): daemon,
		filepath.Join(account, "token"): []byte(config.BearerToken), filepath.Join(account, "ca.crt"): config.CAData,
	} {
		err = errors.Join(err, os.WriteFile(path, data, 0o600))
	}
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(filepath.Join(s.multus, "multus-daemon"), "-config", filepath.Join(s.dir, "daemon-config.json"))
	cmd.Env = append(os.Environ(), "MULTUS_NODE_NAME=multus", "KUBERNETES_SERVICE_HOST="+server.Hostname(), "KUBERNETES_SERVICE_PORT="+server.Port())
	p, err := around.group.Start(filepath.Join(s.dir, "multus.log"), cmd)
	if err != nil {
		return nil, err
	}
	one := &side{name: "multus", process: p, caller: host.Caller{Plugin: filepath.Join(s.multus, "multus-shim"), Path: s.plugins, IfName: "eth0"}}
	err = host.Await(ctx, "multus-daemon to serve", func() (bool, error) {
		if err := p.Ended(); err != nil {
			return false, err
		}
		one.caller.Conf, err = os.ReadFile(filepath.Join(dir, "00-multus.conf"))
		if errors.Is(err, os.ErrNotExist) || len(one.caller.Conf) == 0 {
			return false, nil
		}
		return err == nil, err
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start multus: %w", err), p.Stop(true))
	}
	return one, nil
}
