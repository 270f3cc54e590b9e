//go:build cluster

package footprint

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/tendril-cni/tendril/tests/lab/cluster"
	"github.com/tendril-cni/tendril/tests/stage"
	"github.com/tendril-cni/tendril/tests/stage/suite"
)

func TestMain(m *testing.M) { cluster.Main(m) }

const (
	// pods is how many are on the node, vfs how many of them have a VF, batch how
	// many are made at once.
	pods, vfs, batch = 36, 6, 12
	system           = "tendril-system"
)

func TestOnTheCluster(t *testing.T) {
	p := &play{Suite: suite.Open(t, stage.Options{Nodes: 1})}
	p.Acts(t,
		suite.Scene{Name: "Empty", Run: p.empty},
		suite.Scene{Name: "PodsCome", Run: p.full},
		suite.Scene{Name: "PodsAreThere", Run: p.quiet},
		suite.Scene{Name: "RequestsAreMeasured", Run: p.requests},
	)
}

type play struct {
	*suite.Suite
	// peak is the most that any process of a program had, in bytes, by program.
	peak map[string]int64
}

// programs are the processes of Tendril on the node and the workloads they are of.
var programs = map[string]string{"tendrild": "daemonset/tendrild", "tendril-controller": "deployment/tendril-controller"}

// usage is what one process has used so far.
type usage struct {
	program  string
	rss, hwm int64 // bytes: now, and the most there ever was
	group    int64 // bytes that the kernel charges to its container
	cpu      time.Duration
}

// look reads every process of Tendril: the resident memory, what the container's
// group is charged (the page cache of its files among it), and the time used on a
// CPU.
func (p *play) look(t *testing.T) []usage {
	t.Helper()
	out := p.Shell(t, 1, `
for n in tendrild tendril-controller; do for pid in $(busybox pidof $n); do
  g=/sys/fs/cgroup$(sed -n 's/^0:://p' /proc/$pid/cgroup)
  echo $n $(sed -n 's/^VmRSS:\s*\([0-9]*\).*/\1/p; s/^VmHWM:\s*\([0-9]*\).*/\1/p' /proc/$pid/status | sort -n) $(cat $g/memory.current 2>/dev/null || echo 0) $(sed -n 's/^usage_usec //p' $g/cpu.stat)
done; done`)
	var all []usage
	for line := range strings.Lines(out) {
		var u usage
		var micro int64
		if _, err := fmt.Sscan(line, &u.program, &u.rss, &u.hwm, &u.group, &micro); err != nil {
			t.Fatalf("read %q: %v", line, err)
		}
		u.rss, u.hwm, u.cpu = u.rss<<10, u.hwm<<10, time.Duration(micro)*time.Microsecond
		all = append(all, u)
	}
	if len(all) < 2 {
		t.Fatalf("processes of Tendril on the node: %q", out)
	}
	return all
}

// report prints what was used, over a time since before.
func (p *play) report(t *testing.T, before []usage, since time.Duration) {
	t.Helper()
	for i, u := range p.look(t) {
		p.peak[u.program] = max(p.peak[u.program], u.hwm)
		cpu := ""
		if i < len(before) && before[i].program == u.program {
			cpu = fmt.Sprintf(", %.0fm CPU over %.0fs", float64(u.cpu-before[i].cpu)/float64(since)*1000, since.Seconds())
		}
		t.Logf("%-18s RSS %5.1f MiB, at most %5.1f; its container's group %5.1f%s", u.program, mib(u.rss), mib(u.hwm), mib(u.group), cpu)
	}
}

func mib(n int64) float64 { return float64(n) / (1 << 20) }

// empty is both programs without any pod.
func (p *play) empty(t *testing.T) {
	p.peak = map[string]int64{}
	p.Must(t, p.ApplyFiles(p.Ctx, "deployment/manifests/controller.yaml"))
	for _, workload := range programs {
		p.Ask(t, "-n", system, "rollout", "status", workload, "--timeout=180s")
	}
	p.report(t, nil, 0)
}

// full makes the pods, some at once, each with an interface of its own.
func (p *play) full(t *testing.T) {
	p.Create(t,
		stage.Network{Name: "many", Config: `{"cniVersion":"1.0.0","type":"macvlan","master":"sriov1","ipam":{"type":"whereabouts","range":"10.62.0.0/24"}}`},
		stage.Network{Name: "few", ResourceName: stage.Resource, Config: `{"cniVersion":"1.0.0","type":"sriov","ipam":{"type":"host-local","subnet":"10.63.0.0/24"}}`})
	before, start := p.look(t), time.Now()
	for first := 0; first < pods; first += batch {
		var objects []fmt.Stringer
		for i := first; i < first+batch; i++ {
			pod := stage.Pod{Name: fmt.Sprintf("p%d", i), Networks: "many"}
			if i < vfs {
				pod.Networks += ",few" // admission adds the resource
			}
			objects = append(objects, pod)
		}
		p.Create(t, objects...)
		p.Wait(t, fmt.Sprintf("%d pods to run", first+batch), func(ctx context.Context) (string, bool, error) {
			out, err := p.Kubectl(ctx, "get", "pods", "-o", `jsonpath={range .items[*]}{.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}`)
			return out, strings.Count(out, "True\n") == first+batch, err
		})
	}
	t.Logf("%d pods after %.0fs", pods, time.Since(start).Seconds())
	p.report(t, before, time.Since(start))
}

// quiet is what it takes while nothing changes.
func (p *play) quiet(t *testing.T) {
	before, start := p.look(t), time.Now()
	// The measurement is over a span of time: there is nothing to wait for.
	select {
	case <-p.Ctx.Done():
		t.Fatal(p.Ctx.Err())
	case <-time.After(30 * time.Second):
	}
	p.report(t, before, time.Since(start))
}

// requests: what the scheduler keeps for a pod of Tendril is enough for what was
// measured, and at most three times as much.
func (p *play) requests(t *testing.T) {
	for program, workload := range programs {
		text := p.Ask(t, "-n", system, "get", workload, "-o", "jsonpath={.spec.template.spec.containers[0].resources.requests.memory}")
		q, err := resource.ParseQuantity(text)
		p.Must(t, err)
		if peak := p.peak[program]; q.Value() < peak || q.Value() > 3*peak {
			t.Errorf("%s requests %s of memory; measured at most %.1f MiB", program, text, mib(peak))
		}
	}
}
