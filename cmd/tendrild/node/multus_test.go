package node

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/journal"
	"github.com/tendril-cni/tendril/cni/loan"
	"github.com/tendril-cni/tendril/cni/netconf"
)

// anywhere takes every namespace for the same pod's.
type anywhere struct{ namespaces }

func (anywhere) Identify(*os.File) (cni.Netns, error) { return cni.Netns{Device: 4, Inode: 42}, nil }

// attaching answers ADD as a plugin does.
type attaching struct{ plugins }

func (*attaching) Add(context.Context, cni.Runner, cni.Attachment) (json.RawMessage, error) {
	return json.RawMessage(`{"cniVersion":"1.1.0","interfaces":[{"name":"eth0","sandbox":"/ns"}],"ips":[{"address":"10.244.1.5/24","interface":0}]}`), nil
}

// TestMultusShimGetsAResultThatItReads: it takes every result for one of version
// 1.0.0 or later, and converts it itself.
func TestMultusShimGetsAResultThatItReads(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	j, err := journal.Open(journal.Options{Path: filepath.Join(t.TempDir(), "journal.db"), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	e := cni.New(cni.Options{Journal: j, Delegate: &attaching{}, Log: log, Namespaces: anywhere{}, Default: func() (netconf.Network, error) {
		return netconf.ParseNetwork("test", []byte(`{"cniVersion":"1.0.0","name":"cbr0","type":"flannel"}`), "")
	}})
	socket := filepath.Join(t.TempDir(), "run", "multus.sock")
	d := &daemon{Config: Config{MultusSocket: socket, Log: log}, engine: e, upkeep: &upkeep{desk: loan.New()}}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.serveMultus(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	call, err := json.Marshal(map[string]any{"config": []byte(`{"cniVersion":"0.3.1","name":"multus-cni-network","type":"multus-shim"}`), "env": map[string]string{
		"CNI_COMMAND": "ADD", "CNI_CONTAINERID": "c1", "CNI_IFNAME": "eth0", "CNI_NETNS": "/proc/self/ns/net", "CNI_PATH": "/opt/cni/bin"}})
	if err != nil {
		t.Fatal(err)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", socket) }}}
	var answer *http.Response
	for end := time.Now().Add(10 * time.Second); answer == nil && time.Now().Before(end); { // until it listens
		answer, err = client.Post("http://multus/cni", "application/json", bytes.NewReader(call))
	}
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var got struct {
		Result struct {
			CNIVersion string `json:"cniVersion"`
		}
	}
	if err := json.NewDecoder(answer.Body).Decode(&got); err != nil || got.Result.CNIVersion != "1.1.0" {
		t.Errorf("status %d, version %q (%v)", answer.StatusCode, got.Result.CNIVersion, err)
	}
}
