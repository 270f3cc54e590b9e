package takeover

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netconf"
)

// Dirs are where the state is. Either may not exist.
type Dirs struct {
	// Multus is the cniDir of Multus, by default /var/lib/cni/multus.
	Multus string
	// Sriov is the state directory of sriov-cni, /var/lib/cni/sriov.
	Sriov string
}

// Host answers what the files do not say.
type Host interface {
	// Identify says which network namespace is at path; ok is false when none is.
	Identify(path string) (ns cni.Netns, ok bool)
	// VF says where a VF is: PCI address of its PF, index there, and its driver.
	VF(address string) (pf string, index int, driver string, err error)
}

// Read returns the attachments of every sandbox that Multus has a file of, by
// container. Errors are about files that could not be understood, and are
// returned beside the rest.
func Read(d Dirs, host Host) (map[string][]cni.Record, error) {
	entries, err := os.ReadDir(d.Multus)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read state of Multus: %w", err)
	}
	known, errs := results(filepath.Join(d.Multus, "results"))
	out := map[string][]cni.Record{}
	for _, e := range entries {
		if !e.Type().IsRegular() || !idForm.MatchString(e.Name()) {
			continue
		}
		s := sandbox{id: e.Name(), dirs: d, host: host, results: known[e.Name()]}
		records, err := s.read()
		if err != nil {
			errs = append(errs, fmt.Errorf("read state of Multus for container %s: %w", e.Name(), err))
			continue
		}
		out[e.Name()] = records
	}
	return out, errors.Join(errs...)
}

// idForm is that of the CNI specification (CNI_CONTAINERID). Multus keeps other
// files beside these that have another.
var idForm = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.\-]*$`)

// delegate is an element of Multus' file (pkg/types, DelegateNetConf).
type delegate struct {
	Name          string
	IfnameRequest string   `json:"ifnameRequest"`
	MacRequest    string   `json:"macRequest"`
	IPRequest     []string `json:"ipRequest"`
	DeviceID      string   `json:"deviceID"`
	ResourceName  string   `json:"resourceName"`
	// Bytes is the configuration as it was run.
	Bytes []byte
}

// result is libcni's file (libcni/api.go, cachedInfo).
type result struct {
	Kind           string                     `json:"kind"`
	ContainerID    string                     `json:"containerId"`
	IfName         string                     `json:"ifName"`
	NetworkName    string                     `json:"networkName"`
	Netns          string                     `json:"netns"`
	CNIArgs        [][2]string                `json:"cniArgs"`
	CapabilityArgs map[string]json.RawMessage `json:"capabilityArgs"`
	Result         json.RawMessage            `json:"result"`
}

// results reads libcni's cache, by container.
func results(dir string) (map[string][]result, []error) {
	files, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, []error{fmt.Errorf("read results of Multus: %w", err)}
	}
	out := map[string][]result{}
	var errs []error
	for _, f := range files {
		var r result
		data, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err == nil {
			err = json.Unmarshal(data, &r)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("read result %s of Multus: %w", f.Name(), err))
			continue
		}
		if r.Kind == "cniCacheV1" && r.ContainerID != "" {
			out[r.ContainerID] = append(out[r.ContainerID], r)
		}
	}
	return out, errs
}

// sandbox is one container's state.
type sandbox struct {
	id      string
	dirs    Dirs
	host    Host
	results []result
}

func (s sandbox) read() ([]cni.Record, error) {
	data, err := os.ReadFile(filepath.Join(s.dirs.Multus, s.id))
	if err != nil {
		return nil, err
	}
	var delegates []delegate
	if err := json.Unmarshal(data, &delegates); err != nil {
		return nil, err
	}
	var out []cni.Record
	for i, d := range delegates {
		rec, err := s.record(i, d)
		if err != nil {
			return nil, fmt.Errorf("delegate %d (%s): %w", i, d.Name, err)
		}
		out = append(out, rec)
	}
	for i := range out {
		out[i].Attachment.Call = out[0].Attachment.IfName
	}
	return out, nil
}

func (s sandbox) record(i int, d delegate) (cni.Record, error) {
	_, name, _ := strings.Cut(d.Name, "/")
	if name == "" {
		name = d.Name
	}
	network, err := netconf.ParseNetwork("delegate of Multus", d.Bytes, name)
	if err != nil {
		return cni.Record{}, err
	}
	r, ran := s.result(i, d, network.Name)
	a := cni.Attachment{
		ContainerID: s.id, IfName: r.IfName, Network: d.Name, Default: i == 0, Kind: cni.KindExec, Config: network,
		Pod: s.pod(), Netns: s.netns(r), CNIArgs: joined(r.CNIArgs), RuntimeConfig: r.CapabilityArgs,
		Resource: d.ResourceName, Device: d.DeviceID, MAC: d.MacRequest,
	}
	if i > 0 {
		a.Selection = selection(d)
	}
	rec := cni.Record{Attachment: a, Order: i, Phase: cni.Attached, Imported: true, Result: json.RawMessage(`{"cniVersion":"1.0.0"}`)}
	if ran && len(r.Result) > 0 {
		rec.Result = r.Result
	}
	return s.vf(rec)
}

// selection is as much of the pod's wish as the file tells.
func selection(d delegate) *netconf.Element {
	namespace, name, ok := strings.Cut(d.Name, "/")
	if !ok {
		return nil // a network of the node's configuration
	}
	return &netconf.Element{Namespace: namespace, Name: name, Interface: d.IfnameRequest, MAC: d.MacRequest, IPs: d.IPRequest}
}

// result finds what delegate i was run with. Without a file of it (it was being
// attached, or the cache was cleaned) what all delegates of the pod share is taken
// from another one.
func (s sandbox) result(i int, d delegate, network string) (r result, ran bool) {
	name := d.IfnameRequest
	if name == "" && i > 0 {
		name = fmt.Sprintf("net%d", i)
	}
	for _, r := range s.results {
		if r.NetworkName == network && (r.IfName == name || name == "" && !strings.HasPrefix(r.IfName, "net")) {
			return r, true
		}
	}
	if name == "" {
		name = "eth0" // what every Kubernetes runtime calls it
	}
	r.IfName = name
	if len(s.results) > 0 {
		r.Netns, r.CNIArgs = s.results[0].Netns, s.results[0].CNIArgs
	}
	return r, false
}

// pod reads the pod from CNI_ARGS, as Multus passed them on.
func (s sandbox) pod() (p cni.PodRef) {
	for _, r := range s.results {
		for _, kv := range r.CNIArgs {
			switch kv[0] {
			case "K8S_POD_NAMESPACE":
				p.Namespace = kv[1]
			case "K8S_POD_NAME":
				p.Name = kv[1]
			case "K8S_POD_UID":
				p.UID = kv[1]
			}
		}
	}
	return p
}

// netns identifies the sandbox' namespace. One that is gone keeps its path alone,
// which no later namespace is taken for.
func (s sandbox) netns(r result) cni.Netns {
	if ns, ok := s.host.Identify(r.Netns); ok && r.Netns != "" {
		ns.Path = r.Netns
		return ns
	}
	return cni.Netns{Path: r.Netns}
}

func joined(args [][2]string) string {
	pairs := make([]string, len(args))
	for i, kv := range args {
		pairs[i] = kv[0] + "=" + kv[1]
	}
	return strings.Join(pairs, ";")
}
