package node

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/journal"
	"github.com/tendril-cni/tendril/cni/loan"
	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/cni/rpc"
	"github.com/tendril-cni/tendril/cni/spool"
)

// plugins undo containers as told, and count.
type plugins struct {
	del func(ctx context.Context, container string) error
	mu  sync.Mutex
	ran map[string]int
}

func (p *plugins) Add(context.Context, cni.Runner, cni.Attachment) (json.RawMessage, error) {
	return nil, errors.New("nobody asks")
}

func (p *plugins) Del(ctx context.Context, _ cni.Runner, a cni.Attachment, _ json.RawMessage) error {
	p.mu.Lock()
	p.ran[a.ContainerID]++
	p.mu.Unlock()
	return p.del(ctx, a.ContainerID)
}

// indebted is a node with DELs in its spool, in that order, and a runtime that
// calls all the time.
func indebted(t *testing.T, del func(context.Context, string) error, containers ...string) (*debts, *plugins) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	j, err := journal.Open(journal.Options{Path: filepath.Join(t.TempDir(), "journal.db"), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	s, err := spool.Open(filepath.Join(t.TempDir(), "spool"))
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range containers {
		if err := s.Put(rpc.Request{Command: "DEL", ContainerID: id, IfName: "eth0", StdinData: []byte(`{}`)}); err != nil {
			t.Fatal(err)
		}
	}
	p := &plugins{del: del, ran: map[string]int{}}
	e := cni.New(cni.Options{Journal: j, Delegate: p, Log: log, Namespaces: namespaces{}, Default: func() (netconf.Network, error) {
		return netconf.ParseNetwork("test", []byte(`{"cniVersion":"1.0.0","name":"cbr0","type":"flannel"}`), "")
	}})
	d := &debts{engine: e, spool: s, desk: loan.New(), settled: func(string) {}, counts: newCounts(), log: log, poke: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			d.desk.Lend(ctx, func(context.Context, string, []byte, []string) ([]byte, error) { return nil, nil }, time.Second)
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
	return d, p
}

// TestDebtThatHangsDoesNotHoldUpTheOthers: plugins that wait for something that is
// gone for good take all the time that they get.
func TestDebtThatHangsDoesNotHoldUpTheOthers(t *testing.T) {
	d, p := indebted(t, func(ctx context.Context, container string) error {
		if container == "a-stuck" {
			<-ctx.Done()
		}
		return ctx.Err()
	}, "a-stuck", "b-fine")
	for end := time.Now().Add(20 * time.Second); p.ran["b-fine"] == 0 && time.Now().Before(end); {
		ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
		d.round(ctx)
		cancel()
	}
	if p.ran["b-fine"] != 1 {
		t.Errorf("ran %v, want the one behind done", p.ran)
	}
	if left, err := d.spool.List(); err != nil || len(left) != 1 || left[0].Request.ContainerID != "a-stuck" {
		t.Errorf("left %v (%v)", left, err)
	}
}

// TestDebtThatFailsIsNotTriedInEveryCall: each try takes time from a pod that has
// nothing to do with it.
func TestDebtThatFailsIsNotTriedInEveryCall(t *testing.T) {
	d, p := indebted(t, func(context.Context, string) error { return errors.New("no such backend") }, "c1")
	for range 5 {
		d.round(context.Background())
	}
	if p.ran["c1"] != 1 {
		t.Errorf("tried %d times in a row", p.ran["c1"])
	}
}

// TestDebtsAreComplainedOfOnce: the spool is looked at every other second, for as
// long as a debt is there.
func TestDebtsAreComplainedOfOnce(t *testing.T) {
	d, _ := indebted(t, func(context.Context, string) error { return nil })
	var text strings.Builder
	d.log = slog.New(slog.NewTextHandler(&text, nil))
	if err := os.WriteFile(filepath.Join(d.spool.Dir(), "c1@eth0.del"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		d.round(context.Background())
	}
	if got := strings.Count(text.String(), "level=WARN"); got != 1 {
		t.Errorf("%d warnings, want one:\n%s", got, text.String())
	}
}
