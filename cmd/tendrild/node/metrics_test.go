package node_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/tendril-cni/tendril/cni/inspect"
	"github.com/tendril-cni/tendril/cni/rpc"
)

// metricsAddr is a free port of this test's own network namespace.
func metricsAddr(t *testing.T) string {
	t.Helper()
	if err := netlink.LinkSetUp(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: "lo"}}); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// scrape reads /metrics until every line of want is in it.
func (d *daemon) scrape(want ...string) string {
	d.t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		text, err := get("http://" + d.cfg.MetricsAddr + "/metrics")
		missing := ""
		for _, line := range want {
			if !strings.Contains("\n"+text, "\n"+line+"\n") {
				missing = line
			}
		}
		if err == nil && missing == "" {
			return text
		}
		if time.Now().After(end) {
			d.t.Fatalf("no line %q: %v in\n%s", missing, err, text)
		}
	}
}

func get(url string) (string, error) {
	res, err := http.Get(url)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", url, res.Status)
	}
	return string(text), err
}

// TestMetricsOfALife follows one pod: what the numbers say before, with it, and
// after; and that a call which is refused shows with its step and code.
func TestMetricsOfALife(t *testing.T) {
	d := run(t)
	ask(t, d, inspect.PathDoctor, func(h inspect.Host) bool { return h.NotReady == "" })
	d.scrape(`tendril_build_info{version="test"} 1`, `tendril_held{what="attachments"} 0`, `tendril_spool_entries 0`, `tendril_ready 1`, `tendril_vfs{resource="tendril.dev/fast",state="quarantine"} 0`, `tendril_single_homed_pods 0`,
		`tendril_vfs{resource="tendril.dev/fast",state="free"} 6`, `tendril_vfs{resource="tendril.dev/fast",state="used"} 1`,
		`tendril_pf_vfs{pf="sriov0",state="made"} 7`, `tendril_scrape_failed{source="journal"} 0`, `tendril_scrape_failed{source="kubelet"} 0`,
		`sriov_kubepoddevice{container="",dev_type="tendril.dev/fast",namespace="blue",pciAddr="0000:01:10.0",pod="vnf"} 1`)

	d.add()
	d.scrape(`tendril_cni_requests_total{code="0",command="ADD"} 1`, `tendril_calls_total{result="ok",verb="ADD"} 1`,
		`tendril_cni_duration_seconds_count{command="ADD"} 1`, `tendril_step_duration_seconds_count{kind="macvlan",step="attach",verb="ADD"} 2`,
		`tendril_step_duration_seconds_count{kind="",step="intent",verb="ADD"} 1`,
		`tendril_held{what="attachments"} 2`, `tendril_attachments{kind="macvlan",network="blue/store",phase="attached"} 1`,
		`tendril_network_addresses{network="blue/store"} 1`, `tendril_cni_requests_running 0`)

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	bad, err := rpc.Client{Socket: d.cfg.Socket()}.Call(ctx, rpc.Request{ID: "t-2", Command: "CHECK", ContainerID: "nobody", IfName: "eth0", StdinData: []byte(`{"cniVersion":"1.0.0"}`)}, nil)
	if err != nil || bad.ExitCode == 0 || !strings.Contains(string(bad.Stdout), "call t-2") {
		t.Fatalf("CHECK of nobody: %v, %s", err, bad.Stdout)
	}
	if _, err := (rpc.Client{Socket: d.cfg.Socket()}).Call(ctx, rpc.Request{ID: "t-3", Command: "DEL", ContainerID: "c1", IfName: "eth0", StdinData: []byte(`{"cniVersion":"1.0.0"}`)}, nil); err != nil {
		t.Fatal(err)
	}
	d.scrape(`tendril_cni_requests_total{code="999",command="CHECK"} 1`, `tendril_calls_total{result="failed",verb="CHECK"} 1`,
		`tendril_calls_total{result="ok",verb="DEL"} 1`, `tendril_held{what="attachments"} 0`, `tendril_held{what="addresses"} 0`)
}

// TestCommandsOfStrangersMakeNoSeries: whoever speaks to the socket does not choose
// labels.
func TestCommandsOfStrangersMakeNoSeries(t *testing.T) {
	d := run(t)
	ask(t, d, inspect.PathDoctor, func(h inspect.Host) bool { return h.NotReady == "" })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for i := range 3 {
		if _, err := (rpc.Client{Socket: d.cfg.Socket()}).Call(ctx, rpc.Request{ID: "t", Command: fmt.Sprint("X", i), StdinData: []byte(`{}`)}, nil); err != nil {
			t.Fatal(err)
		}
	}
	d.scrape(`tendril_cni_requests_total{code="4",command="other"} 3`)
}
