// Kubelab is the whole host side of the lab's Kubernetes in one program: etcd, kube-apiserver,
// kube-controller-manager, kube-scheduler and kubectl.
//
// It acts as the program whose name it was started under or, failing that, as the one that its first
// argument names. One program shares most of its code between the five and so is a third of their
// size and of their link time. The kubelet is built by itself: it runs in a guest whose processor is
// emulated, where every megabyte paged in is felt.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	"k8s.io/component-base/logs"
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // client metrics, as upstream's own mains have them
	_ "k8s.io/component-base/metrics/prometheus/version"  // kubernetes_build_info
	kubectl "k8s.io/kubectl/pkg/cmd"
	kubectlutil "k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
)

// servers makes each Kubernetes server's command. Only the chosen one is constructed: two in one
// process would register the same flags and metrics twice.
var servers = map[string]func() *cobra.Command{
	"kube-apiserver":          apiserver.NewAPIServerCommand,
	"kube-controller-manager": controllers.NewControllerManagerCommand,
	"kube-scheduler":          func() *cobra.Command { return scheduler.NewSchedulerCommand() },
}

const usage = "usage: kubelab etcd|kube-apiserver|kube-controller-manager|kube-scheduler|kubectl [argument...]"

func main() {
	if !known(filepath.Base(os.Args[0])) {
		os.Args = os.Args[1:]
	}
	if len(os.Args) == 0 || !known(filepath.Base(os.Args[0])) {
		fmt.Fprintln(os.Stderr, usage)
		os.Exit(2)
	}
	run(filepath.Base(os.Args[0]))
}

func known(name string) bool {
	return name == "etcd" || name == "kubectl" || servers[name] != nil
}

// run acts as the named program and does not return.
func run(name string) {
	switch name {
	case "etcd":
		etcdmain.Main(os.Args)
		os.Exit(0)
	case "kubectl":
		logs.GlogSetter(kubectl.GetLogVerbosity(os.Args))
		if err := cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()); err != nil {
			kubectlutil.CheckErr(err)
		}
		os.Exit(0)
	default:
		os.Exit(cli.Run(servers[name]()))
	}
}
