// Command tendrild is the node daemon: meta-plugin, link drivers, addresses and
// device plugin in one process. See ARCHITECTURE.md.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"

	"k8s.io/klog/v2"

	"github.com/tendril-cni/tendril/cmd/tendrild/install"
	"github.com/tendril-cni/tendril/cmd/tendrild/node"
	"github.com/tendril-cni/tendril/cni/flight"
	"github.com/tendril-cni/tendril/cni/refusal"
)

// version is set by the linker.
var version = "dev"

func main() {
	cfg, level, done := flags()
	if done {
		return
	}
	// Every node pays for this process, and the heap is small: to collect it twice
	// as often costs less processor time than a call, and the memory is halved.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(40)
	}
	cfg.Log = slog.New(flight.Handler(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: level})))
	klog.SetSlogLogger(cfg.Log) // what libraries say has the same form
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	run := node.Run
	switch {
	case cfg.Wait:
		run = wait
	case cfg.Inspect != "":
		run = printAnswer
	case cfg.Uninstall:
		run = node.Uninstall
	case cfg.Plan:
		run = printPlan
	}
	if cfg.Inspect == "" {
		cfg.Log.Info("tendrild starts", "version", version, "node", cfg.NodeName)
	}
	if err := run(ctx, cfg); err != nil {
		cfg.Log.Error("tendrild ends", "error", err)
		os.Exit(1)
	}
}

func printAnswer(ctx context.Context, cfg node.Config) error {
	return node.Inspect(ctx, cfg, os.Stdout)
}

// wait ends with ctx.
func wait(ctx context.Context, _ node.Config) error {
	<-ctx.Done()
	return nil
}

func printPlan(ctx context.Context, cfg node.Config) error {
	return node.PrintPlan(ctx, cfg, os.Stdout)
}

// flags reads the command line. done means that the answer was printed.
func flags() (cfg node.Config, level slog.Level, done bool) {
	fs := flag.NewFlagSet("tendrild", flag.ExitOnError)
	host, _ := os.Hostname()
	fs.StringVar(&cfg.ConfigFile, "config", "", "file with the device pools (config.json of the SR-IOV network device plugin)")
	fs.StringVar(&cfg.NetworksFile, "networks-config", "", "file with the node's networks (see docs/configuration.md; a configuration of Multus as it is)")
	fs.StringVar(&cfg.Inspect, "inspect", "", "print what the running daemon says of a `path` (/attachments, /vfs, ...; / lists them), and end")
	fs.BoolVar(&cfg.Plan, "plan", false, "print what the VF policies would do to this node, change nothing, and end")
	fs.BoolVar(&cfg.CDI, "use-cdi", false, "give containers device nodes by CDI specifications in /var/run/cdi (kubelet 1.28 or later)")
	fs.BoolVar(&cfg.PFLink, "pf-link", false, "take VFs for unhealthy while their PF has no link (a VF policy's pfLink says so for its own VFs)")
	fs.StringVar(&cfg.NodeName, "node-name", envOr("NODE_NAME", host), "name of this node's Node object")
	fs.StringVar(&cfg.Kubeconfig, "kubeconfig", "", "kubeconfig file; empty for the in-cluster configuration")
	fs.StringVar(&cfg.RunDir, "run-dir", "/run/tendril", "directory of the socket and the journal, on a tmpfs")
	fs.StringVar(&cfg.StateDir, "state-dir", "/var/lib/tendril", "directory of the journal's copy on disk")
	fs.StringVar(&cfg.SysfsRoot, "sysfs-root", "/sys", "where sysfs is mounted")
	fs.StringVar(&cfg.KubeletRoot, "kubelet-root", "/var/lib/kubelet", "the kubelet's root directory")
	fs.StringVar(&cfg.CNIBinDir, "cni-bin-dir", "/opt/cni/bin", "the runtime's CNI binary directory")
	fs.StringVar(&cfg.CNIConfDir, "cni-conf-dir", "/etc/cni/net.d", "the runtime's CNI configuration directory")
	fs.StringVar(&cfg.MetricsAddr, "metrics-addr", "", "host:port for /healthz, /readyz and /metrics; empty for none")
	fs.StringVar(&cfg.MultusDir, "multus-dir", "/var/lib/cni/multus", "where a Multus that Tendril takes over from keeps its state (cniDir); empty to take nothing over")
	fs.StringVar(&cfg.SriovDir, "sriov-dir", "/var/lib/cni/sriov", "where sriov-cni keeps its state")
	hostLocal := fs.String("host-local-dirs", "/var/lib/cni", "directories of the host, separated by commas, that the daemon sees under their own paths: default networks of type bridge whose host-local keeps its files below them are served in process")
	fs.BoolVar(&cfg.Displace, "take-over", false, "set the CNI configuration of Multus (00-multus.conf) aside, so that the runtime calls Tendril")
	fs.StringVar(&cfg.Whereabouts, "whereabouts", "auto", "namespace in which whereabouts keeps its objects, while other nodes still use it: addresses are shared with it; auto looks whether it is there, off does not")
	fs.StringVar(&cfg.MultusSocket, "multus-socket", "", "path of a socket that speaks the protocol of the Multus daemon, for tools that expect it (/run/multus/multus.sock); empty for none")
	fs.BoolVar(&cfg.NoInterfaceEvents, "no-interface-events", false, "write no event AddedInterface: the API server gets one write for each ADD, the pod's network-status")
	fs.BoolVar(&cfg.Uninstall, "uninstall", false, "take Tendril off this node, whose daemon does not run any more, and end")
	fs.BoolVar(&cfg.Force, "force", false, "with --uninstall: also while pods have networks of Tendril")
	fs.BoolVar(&cfg.Wait, "wait", false, "do nothing until the end is asked for: for the pod of a DaemonSet whose init container uninstalled")
	fs.TextVar(&level, "log-level", slog.LevelInfo, "debug, info, warn or error")
	show := fs.Bool("version", false, "print the version")
	_ = fs.Parse(os.Args[1:]) // ExitOnError
	if *show {
		fmt.Println("tendrild", version)
	} else if fs.NArg() > 0 {
		fmt.Fprintln(fs.Output(), refusal.New("command line", "argument", fs.Arg(0), "none: flags alone; a switch has its value behind =, as in --use-cdi=true"))
		os.Exit(2) // as a flag that there is not: those behind the word would not be read
	}
	cfg.HostLocalDirs = strings.FieldsFunc(*hostLocal, func(r rune) bool { return r == ',' })
	cfg.Shim, cfg.Version = shimBeside(), version
	return cfg, level, *show
}

// shimBeside finds the shim next to this executable, where the image and
// `make build` put it.
func shimBeside() string {
	self, err := os.Executable()
	if err != nil {
		return ""
	}
	path := filepath.Join(filepath.Dir(self), install.ShimName)
	if _, err := os.Stat(path); err != nil {
		return ""
	}
	return path
}

func envOr(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}
