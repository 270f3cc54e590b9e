//go:build cluster

package cluster_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tendril-cni/tendril/tests/lab/cluster"
	"github.com/tendril-cni/tendril/tests/lab/oci"
)

func TestMain(m *testing.M) { cluster.Main(m) }

// patience is several times what the whole of one step takes on a busy machine.
const patience = 5 * time.Minute

// pod is a pod of the tools image that does nothing on node n.
func pod(n int) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata:
  name: pod%d
spec:
  nodeName: %s
  terminationGracePeriodSeconds: 0
  containers:
    - name: main
      image: %s
      imagePullPolicy: Never
      command: [sleep, infinity]
---`, n, cluster.NodeName(n), cluster.ToolsImage)
}

// eventually runs kubectl until it succeeds; if it never does, node has the reason in its logs.
func eventually(t *testing.T, ctx context.Context, c *cluster.Cluster, node int, args ...string) {
	t.Helper()
	limited, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		_, err := c.Kubectl(limited, args...)
		if err == nil {
			return
		}
		select {
		case <-limited.Done():
			t.Fatalf("%v\n%s", err, c.Logs(ctx, node))
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// One cluster does for all of it: starting one is most of the time.
func TestTwoNodes(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	started := time.Now()
	progress := func(what string) { t.Logf("%5.1fs %s", time.Since(started).Seconds(), what) }
	c, err := cluster.Start(ctx, cluster.Options{Nodes: 2, Progress: progress})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	progress("cluster is usable")

	kubectl := func(t *testing.T, args ...string) string {
		t.Helper()
		out, err := c.Kubectl(ctx, args...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	if err := c.Apply(ctx, pod(1)+pod(2)); err != nil {
		t.Fatal(err)
	}
	kubectl(t, "wait", "--for=condition=Ready", "--timeout=2m", "pod/pod1", "pod/pod2")
	progress("pods are Ready")

	t.Run("ping across nodes", func(t *testing.T) {
		for from, to := range map[string]string{"pod1": "pod2", "pod2": "pod1"} {
			address := kubectl(t, "get", "pod", to, "--output=jsonpath={.status.podIP}")
			if !strings.HasPrefix(address, "10.244.") {
				t.Errorf("%s has address %q", to, address)
			}
			kubectl(t, "exec", from, "--", "ping", "-c", "3", "-w", "20", address)
		}
	})
	t.Run("a pod reaches the api server", func(t *testing.T) {
		kubectl(t, "exec", "pod1", "--", "nc", "-w", "10", "10.77.0.1", "6443", "-e", "true")
	})
	t.Run("imported image", func(t *testing.T) {
		const name = "tendril.dev/imported:dev"
		archive := filepath.Join(t.TempDir(), "image.tar")
		img := oci.Image{Name: name, Files: []oci.File{{Path: "/data", Data: make([]byte, 1<<20)}}}
		if err := oci.WriteFile(archive, img); err != nil {
			t.Fatal(err)
		}
		if err := c.ImportImage(ctx, archive); err != nil {
			t.Fatal(err)
		}
		for n := 1; n <= 2; n++ {
			var images strings.Builder
			if _, err := c.Node(n).Run(ctx, "ctr -n k8s.io images list --quiet", &images); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(images.String(), name+"\n") {
				t.Errorf("%s has only\n%s", cluster.NodeName(n), images.String())
			}
		}
	})
	t.Run("restarted kubelet", func(t *testing.T) {
		if err := c.RestartKubelet(ctx, 1); err != nil {
			t.Fatal(err)
		}
		eventually(t, ctx, c, 1, "exec", "pod1", "--", "true") // once that kubelet knows its pods again
	})
	t.Run("deleted pod gives its address back", func(t *testing.T) {
		kubectl(t, "delete", "pod", "pod1", "--timeout=2m")
		// A kubelet takes the sandbox down after its containers, and reports the pod gone in between.
		const gone = "timeout 60 bash -c 'while grep -lr . /var/lib/cni/networks/lab/10.*; do sleep 0.2; done'"
		var left strings.Builder
		if code, err := c.Node(1).Run(ctx, gone, &left); err != nil || code != 0 {
			t.Errorf("%v, exit code %d, still held:\n%s", err, code, left.String())
		}
	})
	// Last, and of the pod alone: host-local does not sync its records either, so that the address
	// which the pod had before is rarely given back.
	t.Run("node that lost power", func(t *testing.T) {
		if err := c.Node(2).Reset(ctx); err != nil {
			t.Fatal(err)
		}
		progress("node2 has booted again")
		if err := c.StartNode(ctx, 2); err != nil {
			t.Fatal(err)
		}
		eventually(t, ctx, c, 2, "exec", "pod2", "--", "true")
		progress("pod2 is back")
	})
}
