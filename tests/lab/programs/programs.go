package programs

import (
	"context"
	"path/filepath"
	"strings"
)

// KubernetesVersion is the release that the kubernetes module requires.
const KubernetesVersion = "v1.36.3"

// Kubernetes builds the program kubelab, which is etcd, kube-apiserver, kube-controller-manager,
// kube-scheduler and kubectl in one and takes the name of the wanted one as its first argument, and
// beside it the kubelet.
func Kubernetes(ctx context.Context) (KubernetesPrograms, error) {
	// Unstamped, the server gives itself a version that clients cannot parse.
	const version = "k8s.io/component-base/version."
	major, rest, _ := strings.Cut(strings.TrimPrefix(KubernetesVersion, "v"), ".")
	minor, _, _ := strings.Cut(rest, ".")
	dir, err := module{
		name:     "kubernetes",
		packages: []string{"./kubelab", "k8s.io/kubernetes/cmd/kubelet"},
		stamps: []string{
			version + "gitVersion=" + KubernetesVersion,
			version + "gitMajor=" + major,
			version + "gitMinor=" + minor,
		},
	}.build(ctx)
	if err != nil {
		return KubernetesPrograms{}, err
	}
	return KubernetesPrograms{Kubelab: filepath.Join(dir, "kubelab"), Kubelet: filepath.Join(dir, "kubelet")}, nil
}

// KubernetesPrograms are the paths of what Kubernetes builds.
type KubernetesPrograms struct {
	Kubelab string // runs on the host
	Kubelet string // runs in a guest
}

// Containerd builds containerd, containerd-shim-runc-v2 and ctr and returns their directory.
func Containerd(ctx context.Context) (string, error) {
	const cmd = "github.com/containerd/containerd/v2/cmd/"
	return module{
		name:     "containerd",
		packages: []string{cmd + "containerd", cmd + "containerd-shim-runc-v2", cmd + "ctr"},
		tags:     "no_btrfs,no_devmapper,no_zfs",
	}.build(ctx)
}

// Plugins builds the reference CNI plugins that the lab uses, for its default network and to compare
// Tendril with, and returns their directory.
func Plugins(ctx context.Context) (string, error) {
	const plugins = "github.com/containernetworking/plugins/plugins/"
	return module{
		name: "plugins",
		packages: []string{
			plugins + "ipam/dhcp",
			plugins + "ipam/host-local",
			plugins + "ipam/static",
			plugins + "main/bridge",
			plugins + "main/host-device",
			plugins + "main/ipvlan",
			plugins + "main/loopback",
			plugins + "main/macvlan",
			plugins + "main/vlan",
			plugins + "meta/portmap",
			plugins + "meta/sbr",
			plugins + "meta/tuning",
			plugins + "meta/vrf",
		},
	}.build(ctx)
}

// Flannel builds Flannel's CNI plugin, which delegates to one of Plugins, and returns its directory. It
// is that of the reference plugins' v0.9.1, the last release with it: module proxies need not have the
// repository that it moved to, and what it does for a pod is the same there.
func Flannel(ctx context.Context) (string, error) {
	return module{name: "flannel", packages: []string{"github.com/containernetworking/plugins/plugins/meta/flannel"}}.build(ctx)
}

// InjectorVersion is the release that the injector module requires.
const InjectorVersion = "v1.9.0"

// Injector builds the program that answers reviews as the network resources injector does, from cases
// on its standard input, and returns its path.
func Injector(ctx context.Context) (string, error) {
	dir, err := module{name: "injector", packages: []string{"."}}.build(ctx)
	return filepath.Join(dir, "injector"), err
}

// Pause builds the program that holds a pod's namespaces and returns its path.
func Pause(ctx context.Context) (string, error) {
	dir, err := module{name: "pause", packages: []string{"."}}.build(ctx)
	return filepath.Join(dir, "pause"), err
}

// Multus builds the daemon and the shim of Multus' thick plugin, to compare Tendril with, and returns
// their directory.
func Multus(ctx context.Context) (string, error) {
	const cmd = "gopkg.in/k8snetworkplumbingwg/multus-cni.v4/cmd/"
	return module{name: "multus", packages: []string{cmd + "multus-daemon", cmd + "multus-shim"}}.build(ctx)
}
