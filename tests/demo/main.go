// Command demo shows the main job on a real cluster: two pods on two nodes, each
// with a VF, a macvlan and an ipvlan beside its default network. It exits with 0
// only if all of it was observed.
//
// With -shell it stops once Tendril is installed and gives a person a shell with
// kubectl set up; the cluster ends with the shell.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/tendril-cni/tendril/tests/lab"
	"github.com/tendril-cni/tendril/tests/lab/cluster"
	"github.com/tendril-cni/tendril/tests/stage"
)

var examples = []string{"deployment/examples/networks.yaml", "deployment/examples/pod-red.yaml", "deployment/examples/pod-green.yaml"}

func main() {
	lab.Init()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if !lab.Inside() {
		if err := cluster.Fetch(ctx); err != nil {
			fail(err)
		}
	}
	stop()
	lab.Enter()
	ctx, stop = signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := demo(ctx, time.Now(), slices.Contains(os.Args[1:], "-shell")); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "demo:", err)
	os.Exit(1)
}

func demo(ctx context.Context, start time.Time, shell bool) (err error) {
	say := func(format string, args ...any) {
		fmt.Printf("%5.1fs  %s\n", time.Since(start).Seconds(), fmt.Sprintf(format, args...))
	}
	root, err := filepath.Abs(".")
	if err != nil {
		return err
	}
	say("starting two machines with SR-IOV NICs and a Kubernetes control plane")
	s, err := stage.Up(ctx, stage.Options{Nodes: 2, Root: root, Say: say})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if shell {
		return visit(ctx, s)
	}
	if err := play(ctx, s, say); err != nil {
		return fmt.Errorf("%w\n%s", err, s.Explain())
	}
	return nil
}

// visit gives a person a shell in the lab.
func visit(ctx context.Context, s *stage.Stage) error {
	fmt.Print(`
A cluster of two nodes with Tendril on it; it ends with this shell.
  kubectl apply -f deployment/examples/networks.yaml -f deployment/examples/pod-red.yaml
  kubectl get pod red -o yaml
  kubectl exec red -- ip addr
`)
	cmd := exec.CommandContext(ctx, "bash", "--norc", "-i")
	cmd.Env = append(s.Environ(), `PS1=lab:\w\$ `)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		return fmt.Errorf("run shell: %w", err)
	}
	return nil // a person's last command may have failed
}

func play(ctx context.Context, s *stage.Stage, say func(string, ...any)) error {
	before, err := s.Worlds(ctx)
	if err != nil {
		return err
	}
	if err := s.ApplyFiles(ctx, examples...); err != nil {
		return err
	}
	say("applied %s", strings.Join(examples, ", "))
	if err := s.PodReady(ctx, "red", "green"); err != nil {
		return err
	}
	say("pods red (node1) and green (node2) are Ready")
	pods := map[string][]stage.Interface{}
	for _, pod := range []string{"red", "green"} {
		if pods[pod], err = s.Interfaces(ctx, pod); err != nil {
			return err
		}
	}
	if err := show(pods["red"], pods["green"]); err != nil {
		return err
	}
	if err := pingAll(ctx, s, say, pods["red"], pods["green"]); err != nil {
		return err
	}
	if err := s.PodGone(ctx, "red", "green"); err != nil {
		return err
	}
	say("pods deleted")
	if err := s.AwaitWorlds(ctx, before); err != nil {
		return err
	}
	say("back as before on both nodes: every VF (MAC, VLAN, name), every address, every link")
	fmt.Printf("\n%s", before[0])
	return nil
}

// wanted is what each pod has to have: interface, kind, VLAN.
var wanted = []struct {
	name, kind string
	vlan, ips  int
}{{"eth0", "default", 0, 1}, {"net1", "sriov", 42, 1}, {"store0", "macvlan", 0, 2}, {"net3", "ipvlan", 0, 1}}

// show prints the table and compares it with what was asked for.
func show(pods ...[]stage.Interface) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nPOD\tINTERFACE\tKIND\tDEVICE\tADDRESS\tMAC\tVLAN")
	for _, interfaces := range pods {
		for _, i := range interfaces {
			vlan := "-"
			if i.VLAN != 0 {
				vlan = fmt.Sprint(i.VLAN)
			}
			device := i.Device
			if device == "" {
				device = "-"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", i.Pod, i.Name, i.Kind, device, strings.Join(i.IPs, ","), i.MAC, vlan)
		}
	}
	fmt.Fprintln(w)
	if err := w.Flush(); err != nil {
		return err
	}
	for _, interfaces := range pods {
		if len(interfaces) != len(wanted) {
			return fmt.Errorf("network-status has %d interfaces, want %d", len(interfaces), len(wanted))
		}
		for k, want := range wanted {
			got := interfaces[k]
			if got.Name != want.name || got.Kind != want.kind || got.VLAN != want.vlan || len(got.IPs) != want.ips || (got.Kind == "sriov") != (got.Device != "") {
				return fmt.Errorf("pod %s: interface %d is %+v, want %+v", got.Pod, k, got, want)
			}
		}
	}
	return nil
}

func pingAll(ctx context.Context, s *stage.Stage, say func(string, ...any), a, b []stage.Interface) error {
	for k := range a {
		for n, ip := range b[k].IPs {
			if err := s.Ping(ctx, a[k].Pod, a[k].Name, ip); err != nil {
				return err
			}
			if err := s.Ping(ctx, b[k].Pod, b[k].Name, a[k].IPs[n]); err != nil {
				return err
			}
			say("ping %s %s <-> %s %s: 3 of 3, both ways", a[k].Pod, a[k].IPs[n], b[k].Pod, ip)
		}
	}
	return nil
}
