package node

import (
	"log/slog"
	"path/filepath"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/refusal"
)

// Config is what the flags of tendrild say. Paths are as the daemon sees them.
type Config struct {
	// ConfigFile holds the device pools in the format of the SR-IOV network
	// device plugin; empty for none.
	ConfigFile string
	// NetworksFile says which networks pods get and may ask for: see
	// netconf.ParseNode. Empty for the defaults.
	NetworksFile string
	// Version is this program's, for people.
	Version string
	// Inspect is a path that the running daemon is to be asked for: see Inspect.
	Inspect string
	// Plan says that what the VF policies would do is to be printed: see PrintPlan.
	Plan bool
	// CDI gives containers their device nodes by CDI instead of by name.
	CDI bool
	// PFLink makes VFs unhealthy while their PF has no link, also those that no
	// policy is about.
	PFLink   bool
	NodeName string
	// Kubeconfig is empty for the in-cluster configuration.
	Kubeconfig  string
	RunDir      string
	StateDir    string
	SysfsRoot   string
	KubeletRoot string
	CNIBinDir   string
	CNIConfDir  string
	// MultusDir and SriovDir are where Multus and sriov-cni keep what they know of
	// running pods; empty to take nothing over.
	MultusDir, SriovDir string
	// HostLocalDirs are directories of the host, under their own paths, in which
	// default networks may have the files of host-local; none has them executed.
	HostLocalDirs []string
	// Displace has the configuration of Multus set aside when Tendril's own is
	// installed; Uninstall puts it back.
	Displace bool
	// Whereabouts says in which namespace whereabouts, which still hands out addresses
	// on other nodes, has its objects; "off" for nowhere, "auto" or empty to look.
	Whereabouts string
	// MultusSocket is the path of a socket for clients of the Multus daemon; empty
	// for none.
	MultusSocket string
	// Uninstall and Force are for Uninstall alone; Wait does nothing at all.
	Uninstall, Force, Wait bool
	// NoInterfaceEvents leaves out the event of each ADD, AddedInterface: one write
	// to the API server instead of two. Warnings and the events of running pods stay.
	NoInterfaceEvents bool
	// MetricsAddr is host:port of the health and metrics endpoint; empty for none.
	MetricsAddr string
	// Shim is the executable that is installed into CNIBinDir; empty to leave
	// that directory alone.
	Shim string
	Log  *slog.Logger
	// Cluster and Report replace the API server, for a machine without
	// Kubernetes. Both or neither.
	Cluster cni.Cluster
	Report  cni.Reporter
	// OnStep is called around each journal transaction (crash tests).
	OnStep func(point string)
}

// Socket is the path on which the shim finds the daemon.
func (c Config) Socket() string { return filepath.Join(c.RunDir, "tendril.sock") }

func (c Config) journal() string     { return filepath.Join(c.RunDir, "journal.db") }
func (c Config) journalCopy() string { return filepath.Join(c.StateDir, "journal.db") }
func (c Config) failures() string    { return filepath.Join(c.StateDir, "failures.json") }
func (c Config) resultCache() string { return filepath.Join(c.RunDir, "cni-cache") }

// validate names the first flag that cannot work.
func (c Config) validate() error {
	for flag, path := range map[string]string{
		"--run-dir": c.RunDir, "--state-dir": c.StateDir, "--sysfs-root": c.SysfsRoot,
		"--kubelet-root": c.KubeletRoot, "--cni-bin-dir": c.CNIBinDir, "--cni-conf-dir": c.CNIConfDir,
	} {
		if !filepath.IsAbs(path) {
			return refusal.New("tendrild", flag, path, "an absolute path")
		}
	}
	for _, dir := range c.HostLocalDirs {
		if !filepath.IsAbs(dir) {
			return refusal.New("tendrild", "--host-local-dirs", dir, "absolute paths")
		}
	}
	if c.NodeName == "" {
		return refusal.New("tendrild", "--node-name", "", "the name of this node's Node object")
	}
	return nil
}
