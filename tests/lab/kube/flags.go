package kube

import "fmt"

// etcdAddress is a unix socket of that name in the state directory, where etcd and the API server both
// work. etcd insists on the form host:port; there is no port.
const etcdAddress = "unix://etcd.sock:0"

func etcdFlags() []string {
	return []string{
		"--data-dir=etcd",
		"--listen-client-urls=" + etcdAddress,
		"--advertise-client-urls=" + etcdAddress,
		"--listen-peer-urls=http://127.0.0.1:0", // it has no peers, but will not be without an address
		"--unsafe-no-fsync",
	}
}

func (a *API) serverFlags() []string {
	flags := []string{
		"--etcd-servers=" + etcdAddress,
		fmt.Sprintf("--bind-address=%s", a.options.bind()),
		fmt.Sprintf("--advertise-address=%s", a.options.reach()),
		fmt.Sprintf("--secure-port=%d", a.port.number),
		"--permit-port-sharing", // with the socket that reserves the port
		"--tls-cert-file=" + serverCert,
		"--tls-private-key-file=" + serverKey,
		"--token-auth-file=" + tokensFile,
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--allow-privileged",
		"--service-cluster-ip-range=" + serviceSubnet,
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + accountsKey,
		"--service-account-signing-key-file=" + accountsKey,
		// Otherwise exec and logs would look the node's name up in DNS.
		"--kubelet-preferred-address-types=InternalIP",
	}
	if !a.options.Address.IsValid() {
		// A service's endpoint may not be on loopback.
		flags = append(flags, "--endpoint-reconciler-type=none")
	}
	if !a.options.Controllers {
		flags = append(flags, "--disable-admission-plugins=ServiceAccount")
	} else {
		// There is no kube-proxy on this side: a Service that a webhook has is reached at its ready
		// endpoints, which the controllers keep.
		flags = append(flags, "--enable-aggregator-routing")
	}
	return append(flags, a.options.auditFlags()...)
}

func controllerFlags(kubeconfig string) []string {
	return []string{
		"--kubeconfig=" + kubeconfig,
		"--leader-elect=false",
		"--use-service-account-credentials",
		"--root-ca-file=" + caFile,
		"--service-account-private-key-file=" + accountsKey,
		"--secure-port=0", // nobody asks for its metrics
	}
}

func schedulerFlags(kubeconfig string) []string {
	return []string{"--kubeconfig=" + kubeconfig, "--leader-elect=false", "--secure-port=0"}
}
