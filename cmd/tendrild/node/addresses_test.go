package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"k8s.io/client-go/rest"

	"github.com/tendril-cni/tendril/cni/journal"
	"github.com/tendril-cni/tendril/ipam"
)

// TestClaimWaitsNoLongerThanItsCall: the daemon looks for whereabouts, which nobody
// answers, when a pod needs an address.
func TestClaimWaitsNoLongerThanItsCall(t *testing.T) {
	if err := netlink.LinkSetUp(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: "lo"}}); err != nil {
		t.Fatal(err)
	}
	asked, end := make(chan struct{}, 8), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/ippools") {
			asked <- struct{}{}
			<-end
			return
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"name":"one","uid":"u"}}`)
	}))
	defer server.Close()
	defer close(end)
	log := slog.New(slog.DiscardHandler)
	j, err := journal.Open(journal.Options{Path: filepath.Join(t.TempDir(), "journal.db"), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	d := &daemon{Config: Config{NodeName: "one", Whereabouts: whereaboutsAuto, Log: log}, rest: &rest.Config{Host: server.URL}, journal: j}
	if d.slots, err = d.newAddresses(); err != nil {
		t.Fatal(err)
	}
	keeper, stop := context.WithCancel(t.Context())
	kept := make(chan struct{})
	go func() { defer close(kept); _ = d.slots.prepare(keeper) }()
	<-asked
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	claimed := make(chan error, 1)
	go func() { claimed <- d.slots.Claim(ctx, &ipam.NeedSlots{}) }()
	select {
	case err := <-claimed:
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("a claim outlives its call")
	}
	// What the keeper asks ends too, and leaves the way to others.
	select {
	case <-kept:
	case <-time.After(3 * identifyTime):
		t.Error("the look for whereabouts has no end")
	}
	stop()
	<-kept
}
