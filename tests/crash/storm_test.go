package crash

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tendril-cni/tendril/cni/netns/netnstest"
	"github.com/tendril-cni/tendril/tests/crash/sweep"
)

// stormPods is how many pods a node of the usual size runs; parallel is how many
// of them the kubelet starts at a time.
const (
	stormPods = 250
	parallel  = 10
)

// TestInvariant1RestartsUnderAStormOfPods kills the daemon again and again while
// 250 pods start. As a runtime does, a pod whose ADD failed is deleted and tried
// again as another container. Every ADD that succeeds made all interfaces.
func TestInvariant1RestartsUnderAStormOfPods(t *testing.T) {
	master, _ := netnstest.Veth(t)
	sys := t.TempDir()
	if err := os.MkdirAll(filepath.Join(sys, "bus/pci/devices"), 0o755); err != nil {
		t.Fatal(err)
	}
	conf := func(subnet string) string {
		return fmt.Sprintf(`{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"macvlan","master":%q,"ipam":{"type":"host-local","subnet":%q}}]}`, master.Attrs().Name, subnet)
	}
	s := sweep.NewStand(t, sweep.Scene{Sysfs: sys, Annotation: "one,two", Default: conf("10.1.0.0/22"),
		Definitions: map[string]string{"one": conf("10.2.0.0/22"), "two": conf("10.3.0.0/22")}})
	var tries atomic.Int32
	storm := make(chan struct{})
	go func() {
		defer close(storm)
		var pods sync.WaitGroup
		slots := make(chan struct{}, parallel)
		for i := range stormPods {
			slots <- struct{}{}
			pods.Go(func() { defer func() { <-slots }(); startPod(s, i, &tries) })
		}
		pods.Wait()
	}()
	v := s.Start("", -1)
	for kills := 0; ; {
		select {
		case <-storm:
			s.Stop(v)
			t.Logf("%d pods took %d tries under %d kills", stormPods, tries.Load(), kills)
			if held := s.Held(); held != "" {
				t.Errorf("after all pods are deleted the journal still holds\n%s", held)
			}
			return
		case <-time.After(200 * time.Millisecond):
			if kills < 5 {
				s.Stop(v)
				v = s.Start("", -1)
				kills++
			}
		}
	}
}

// startPod starts one pod, looks at it, and deletes it.
func startPod(s *sweep.Stand, i int, tries *atomic.Int32) {
	pod := netnstest.Pod(s.T)
	for try := 0; try < 20; try++ {
		tries.Add(1)
		container := fmt.Sprintf("c%d-%d", i, try)
		err := s.CallIn("ADD", container, pod)
		links := podLinksOf(s.T, pod)
		if err == nil && countLinks(links) != 3 {
			s.T.Errorf("ADD of %s succeeded, and the pod has\n%s", container, links)
		}
		for del := s.CallIn("DEL", container, pod); del != nil; del = s.CallIn("DEL", container, pod) {
			if try++; try >= 20 {
				s.T.Errorf("DEL of %s: %v", container, del)
				return
			}
		}
		if left := podLinksOf(s.T, pod); countLinks(left) != 0 {
			s.T.Errorf("DEL of %s left\n%s", container, left)
		}
		if err == nil {
			return
		}
	}
	s.T.Errorf("pod %d never started", i)
}
