package cluster

import (
	"bytes"
	"context"
	"crypto/rand"
	"embed"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path"
	"strings"
	"text/template"

	"sigs.k8s.io/yaml"

	"github.com/tendril-cni/tendril/tests/lab/machine"
)

//go:embed guest
var guest embed.FS

// Paths in a node.
const (
	nodeScript      = "/etc/lab/node"
	kubeletConfig   = "/etc/lab/kubelet.json"
	kubeletIdentity = "/etc/lab/kubeconfig"
	kubeletCert     = "/etc/lab/kubelet.crt" // named in guest/kubelet.yaml, as is the key
	kubeletKey      = "/etc/lab/kubelet.key"
	runtimeConfig   = "/etc/containerd/config.toml" // where containerd looks by itself
	networkConfig   = "/etc/cni/net.d/10-lab.conflist"
)

// StartNode makes a node of machine n again after [machine.Machine.Reset] and returns when it is Ready.
// What containerd and the kubelet had on disk they find again.
func (c *Cluster) StartNode(ctx context.Context, n int) error {
	last, _ := c.heartbeat(ctx, n) // zero if it is not Ready now, and then any will do
	if err := c.startNode(ctx, n); err != nil {
		return err
	}
	return c.awaitNode(ctx, n, last)
}

func (c *Cluster) startNode(ctx context.Context, n int) error {
	if err := c.configure(ctx, n); err != nil {
		return fmt.Errorf("configure %s: %w", NodeName(n), err)
	}
	script := strings.Join([]string{
		"set -e",
		nodeScript + " install " + diskDir,
		c.routes(n),
		nodeScript + " start containerd",
		nodeScript + " await containerd",
		startKubelet(n),
	}, "\n")
	if err := c.run(ctx, n, script); err != nil {
		return fmt.Errorf("start %s: %w", NodeName(n), err)
	}
	c.options.say("%s runs containerd and kubelet", NodeName(n))
	return nil
}

// RestartKubelet ends node n's kubelet, starts another one, and returns when that one has said that
// the node is Ready.
func (c *Cluster) RestartKubelet(ctx context.Context, n int) error {
	if err := c.run(ctx, n, nodeScript+" stop kubelet"); err != nil {
		return fmt.Errorf("stop kubelet of %s: %w", NodeName(n), err)
	}
	// Not before: the old one would say once more that the node is Ready.
	last, _ := c.heartbeat(ctx, n)
	if err := c.run(ctx, n, "set -e\n"+startKubelet(n)); err != nil {
		return fmt.Errorf("restart kubelet of %s: %w", NodeName(n), err)
	}
	return c.awaitNode(ctx, n, last)
}

func startKubelet(n int) string {
	return strings.Join([]string{
		nodeScript, "start", "kubelet",
		"--config=" + kubeletConfig,
		"--kubeconfig=" + kubeletIdentity,
		"--hostname-override=" + NodeName(n),
		"--node-ip=" + machine.Addr(n).String(),
	}, " ") + "\n" + nodeScript + " await kubelet"
}

// ImportImage gives every node the images of archives on this machine.
func (c *Cluster) ImportImage(ctx context.Context, archives ...string) error {
	for _, archive := range archives {
		err := c.eachNode(func(n int) error { return c.importImage(ctx, n, archive) })
		if err != nil {
			return fmt.Errorf("import image %s: %w", archive, err)
		}
	}
	return nil
}

func (c *Cluster) importImage(ctx context.Context, n int, archive string) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	there := "/var/tmp/image-" + rand.Text() // others may be importing
	if err := c.Node(n).Put(ctx, there, 0o600, f); err != nil {
		return err
	}
	return c.run(ctx, n, "set -e\n"+nodeScript+" import "+there+"\nrm "+there)
}

// configure writes the files that a node's programs read.
func (c *Cluster) configure(ctx context.Context, n int) error {
	kubelet, err := c.kubeletConfiguration()
	if err != nil {
		return err
	}
	files := map[string][]byte{
		nodeScript:    guestFile("node"),
		kubeletConfig: kubelet,
		runtimeConfig: expand("containerd.toml", n),
		networkConfig: expand("lab.conflist", n),
	}
	// A kubelet without a certificate makes one, slowly here, and one that it had not synced to disk
	// when the power went would keep it from starting. Nobody checks whose it is.
	cert, key := c.api.ServingCert()
	for name, source := range map[string]string{
		kubeletIdentity: c.api.Kubeconfig(NodeName(n)), kubeletCert: cert, kubeletKey: key,
	} {
		if files[name], err = os.ReadFile(source); err != nil {
			return err
		}
	}
	for name, content := range files {
		if err := c.Node(n).Put(ctx, name, 0o755, bytes.NewReader(content)); err != nil {
			return err
		}
	}
	return nil
}

// kubeletConfiguration is ours with the fields that the options replace.
func (c *Cluster) kubeletConfiguration() ([]byte, error) {
	var fields map[string]any
	if err := yaml.Unmarshal(guestFile("kubelet.yaml"), &fields); err != nil {
		return nil, err
	}
	maps.Copy(fields, c.options.Kubelet)
	return json.Marshal(fields)
}

func guestFile(name string) []byte {
	content, err := guest.ReadFile(path.Join("guest", name))
	if err != nil {
		panic(err) // embedded
	}
	return content
}

// expand is a file with what differs between nodes filled in.
func expand(name string, n int) []byte {
	var out bytes.Buffer
	err := template.Must(template.New(name).Parse(string(guestFile(name)))).Execute(&out, map[string]any{
		"PauseImage": PauseImage,
		"PodCIDR":    PodCIDR(n),
	})
	if err != nil {
		panic(err) // embedded, with these fields
	}
	return out.Bytes()
}

// run runs a script in node n and returns what it printed as its error.
func (c *Cluster) run(ctx context.Context, n int, script string) error {
	var out bytes.Buffer
	code, err := c.Node(n).Run(ctx, script, &out)
	if err != nil {
		return err
	}
	if code != 0 {
		return fmt.Errorf("exit code %d: %s", code, bytes.TrimSpace(out.Bytes()))
	}
	return nil
}

// Logs is the end of what containerd and kubelet of node n have logged, or why it cannot be had.
func (c *Cluster) Logs(ctx context.Context, n int) string {
	var out bytes.Buffer
	if _, err := c.Node(n).Run(ctx, "tail -n 30 /var/log/containerd.log /var/log/kubelet.log", &out); err != nil {
		return err.Error()
	}
	return out.String()
}
