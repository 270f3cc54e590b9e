package crash

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tendril-cni/tendril/cmd/tendrild/node"
	"github.com/tendril-cni/tendril/cni/netns/netnstest"
	"github.com/tendril-cni/tendril/cni/refusal"
	"github.com/tendril-cni/tendril/cni/spool"
	"github.com/tendril-cni/tendril/tests/crash/sweep"
)

const patience = time.Minute

var quiet = slog.New(slog.DiscardHandler)

// plugin notes how it is called and what it is given, and has a result for ADD.
const plugin = `#!/bin/sh
{ echo "$CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME"; cat; echo; } >> %s
[ "$CNI_COMMAND" = ADD ] && echo '{"cniVersion":"1.0.0","interfaces":[{"name":"eth0","sandbox":"/ns"}],"ips":[{"address":"10.1.2.3/24","interface":0}]}'
exit 0
`

// foreignStand has a default network of a foreign plugin and a macvlan. log is
// what the plugin notes.
func foreignStand(t *testing.T) (s *sweep.Stand, log string) {
	t.Helper()
	master, _ := netnstest.Veth(t)
	dir := t.TempDir()
	sys, bin := filepath.Join(dir, "sys"), filepath.Join(dir, "bin")
	log = filepath.Join(dir, "log")
	err := errors.Join(os.MkdirAll(filepath.Join(sys, "bus/pci/devices"), 0o755), os.MkdirAll(bin, 0o755),
		os.WriteFile(filepath.Join(bin, "stub"), fmt.Appendf(nil, plugin, log), 0o755))
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("CNI_PATH", bin)
	return sweep.NewStand(t, sweep.Scene{Sysfs: sys, Annotation: "one", Default: `{"cniVersion":"1.0.0","name":"default","plugins":[{"type":"stub"}]}`,
		Definitions: map[string]string{"one": fmt.Sprintf(`{"cniVersion":"1.0.0","type":"macvlan","master":%q}`, master.Attrs().Name)}}), log
}

func noted(t *testing.T, log, what string) bool {
	t.Helper()
	data, err := os.ReadFile(log)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return strings.Contains(string(data), what)
}

// TestInvariant2SpooledDelOfAForeignNetworkRunsInTheNextCall of the runtime,
// whatever it is about; what needs no plugin does not wait for it.
func TestInvariant2SpooledDelOfAForeignNetworkRunsInTheNextCall(t *testing.T) {
	s, log := foreignStand(t)
	before := podLinks(s)
	v := s.Start("", -1)
	if err := s.Call("ADD"); err != nil {
		t.Fatal(err)
	}
	s.Stop(v)
	if err := spool.Put(filepath.Join(s.Dir, "state", "spool"), s.Request("DEL")); err != nil {
		t.Fatal(err)
	}
	v = s.Start("", -1)
	for deadline := time.Now().Add(patience); !noted(t, log, "DEL c1 eth0"); time.Sleep(20 * time.Millisecond) {
		// The first answer comes after the replay: the macvlan is gone by then.
		if err := s.CallOf("CHECK", "another"); err == nil {
			t.Fatal("CHECK of an unknown container succeeded")
		}
		if got := podLinks(s); got != before {
			t.Fatalf("the daemon serves, and the pod still has\n%s", got)
		}
		if time.Now().After(deadline) {
			t.Fatal("the plugin's DEL did not run")
		}
	}
	for deadline := time.Now().Add(patience); len(spooled(t, s)) > 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the DEL is done and still spooled")
		}
	}
	s.Stop(v)
	if got := s.Held(); got != "" {
		t.Errorf("the journal still holds\n%s", got)
	}
}

func spooled(t *testing.T, s *sweep.Stand) []spool.Entry {
	t.Helper()
	dir, err := spool.Open(filepath.Join(s.Dir, "state", "spool"))
	if err != nil {
		t.Fatal(err)
	}
	entries, err := dir.List()
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

// TestSandboxOfMultusIsDeletedByTendril with the configuration and the result that
// Multus has on disk, and then Multus' files go.
func TestSandboxOfMultusIsDeletedByTendril(t *testing.T) {
	s, log := foreignStand(t)
	config := base64.StdEncoding.EncodeToString([]byte(`{"cniVersion":"1.0.0","name":"storage","type":"stub","own":"key"}`))
	s.Write("multus/c1", `[{"Name":"default","Bytes":"`+base64.StdEncoding.EncodeToString([]byte(`{"cniVersion":"1.0.0","name":"default","type":"stub"}`))+`"},
		{"Name":"blue/storage","ifnameRequest":"store0","Bytes":"`+config+`"}]`)
	for network, ifName := range map[string]string{"default": "eth0", "storage": "store0"} {
		s.Write("multus/results/"+network+"-c1-"+ifName, fmt.Sprintf(`{"kind":"cniCacheV1","containerId":"c1","ifName":%q,"networkName":%q,"netns":"/gone",
			"cniArgs":[["K8S_POD_NAMESPACE","blue"],["K8S_POD_NAME","p"],["K8S_POD_UID","u1"]],"result":{"cniVersion":"1.0.0","ips":[{"address":"10.9.9.9/24"}]}}`, ifName, network))
	}
	v := s.Start("", -1)
	for range 2 {
		if err := s.Call("DEL"); err != nil {
			t.Fatal(err)
		}
	}
	s.Stop(v)
	for _, want := range []string{"DEL c1 eth0", "DEL c1 store0", `"own":"key"`, "10.9.9.9/24"} {
		if !noted(t, log, want) {
			data, _ := os.ReadFile(log)
			t.Errorf("the plugin was not given %q:\n%s", want, data)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(s.Dir, "multus", "*", "*")); len(left) > 0 {
		t.Errorf("left of Multus: %v", left)
	}
	if got := s.Held(); got != "" {
		t.Errorf("the journal still holds\n%s", got)
	}
}

// TestUninstallRefusesWhileAPodNeedsTendril, and then gives the host back.
func TestUninstallRefusesWhileAPodNeedsTendril(t *testing.T) {
	stand, v, before := macvlans.Attached(t)
	config := stand.Config()
	config.Log = quiet
	stand.Write("net.d/00-tendril.conflist", `{}`)
	stand.Write("bin/tendril", "shim")
	if err := node.Uninstall(t.Context(), config); err == nil || !strings.Contains(err.Error(), "has to be removed") {
		t.Errorf("beside a running daemon: %v", err)
	}
	stand.Stop(v)
	var refused *refusal.Refusal
	if err := node.Uninstall(t.Context(), config); !errors.As(err, &refused) || !strings.Contains(err.Error(), "blue/p") {
		t.Errorf("error = %v, want a refusal that names the pod", err)
	}
	// Its DEL comes now, and waits; uninstalling does it.
	if err := spool.Put(filepath.Join(stand.Dir, "state", "spool"), stand.Request("DEL")); err != nil {
		t.Fatal(err)
	}
	if err := node.Uninstall(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	macvlans.Empty(stand, before)
	for name, want := range map[string]bool{"net.d/00-tendril.conflist": false, "bin/tendril": false, "state/spool": false, "net.d/10-default.conflist": true} {
		if _, err := os.Stat(filepath.Join(stand.Dir, name)); (err == nil) != want {
			t.Errorf("%s: there is %v, want %v", name, err == nil, want)
		}
	}
}

// TestInvariant2UninstallRunsThePluginsThatAreOwed: after it nobody remembers the
// default network's address of a pod that was deleted while no daemon ran.
func TestInvariant2UninstallRunsThePluginsThatAreOwed(t *testing.T) {
	s, log := foreignStand(t)
	before := podLinks(s)
	v := s.Start("", -1)
	if err := s.Call("ADD"); err != nil {
		t.Fatal(err)
	}
	s.Stop(v)
	if err := spool.Put(filepath.Join(s.Dir, "state", "spool"), s.Request("DEL")); err != nil {
		t.Fatal(err)
	}
	config := s.Config()
	config.Log = quiet
	// Where the node has its plugins; the call's own CNI_PATH is not needed.
	config.CNIBinDir = os.Getenv("CNI_PATH")
	t.Setenv("CNI_PATH", "")
	if err := node.Uninstall(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	if !noted(t, log, "DEL c1 eth0") {
		t.Error("the default network's plugin was not told")
	}
	if got := podLinks(s); got != before {
		t.Errorf("the pod still has\n%s", got)
	}
	if left := spooled(t, s); len(left) > 0 {
		t.Errorf("still owed: %+v", left)
	}
}

// TestClientsOfMultusPlugARunningPod over its socket; the pod's DEL frees it.
func TestClientsOfMultusPlugARunningPod(t *testing.T) {
	stand, v, before := macvlans.Attached(t)
	defer stand.Stop(v)
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(stand.Dir, "multus.sock"))
	}}}
	post := func(command string) (int, string) {
		r := stand.Request(command)
		var master struct{ Master string }
		if err := json.Unmarshal([]byte(stand.Scene.Definitions["one"]), &master); err != nil {
			t.Fatal(err)
		}
		body, err := json.Marshal(map[string]any{
			"env":    map[string]string{"CNI_COMMAND": command, "CNI_CONTAINERID": r.ContainerID, "CNI_IFNAME": "hot0", "CNI_NETNS": r.NetnsPath, "CNI_ARGS": r.Args},
			"config": fmt.Appendf(nil, `{"cniVersion":"1.0.0","name":"hot","type":"macvlan","master":%q,"ipam":{"type":"host-local","subnet":"192.0.2.64/29"}}`, master.Master),
		})
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Post("http://dummy/delegate", "application/json", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		out, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(out)
	}
	plain := podLinks(stand)
	for _, step := range []struct {
		command, want string
		there         bool
	}{{"ADD", "192.0.2.66/29", true}, {"CHECK", "", true}, {"DEL", "", false}, {"DEL", "", false}, {"ADD", "192.0.2.6", true}} {
		code, out := post(step.command)
		if there := strings.Contains(podLinks(stand), "macvlan hot0"); code != 200 || !strings.Contains(out, step.want) || there != step.there {
			t.Errorf("%s: %d %s; hot0 is there: %v", step.command, code, out, there)
		}
	}
	if podLinks(stand) == plain {
		t.Error("nothing was plugged")
	}
	if err := stand.Call("DEL"); err != nil || podLinks(stand) != before {
		t.Errorf("the pod's DEL left (%v)\n%s", err, podLinks(stand))
	}
}
