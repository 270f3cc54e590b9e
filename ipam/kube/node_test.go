package kube_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"github.com/tendril-cni/tendril/cni/refusal"
	"github.com/tendril-cni/tendril/ipam"
)

const roomy = `"range":"10.0.0.0/18"`

func TestLowestFirstAndNoCallAtSteadyState(t *testing.T) {
	space := newSpace()
	c := shared(t, space, roomy)
	a := newBox(t, server.Config(t), "a").start(t)
	if got := a.mustAdd(t, c, 1); got != "[10.0.0.1]" {
		t.Errorf("first pod has %s", got)
	}
	a.net.cut.Store(true) // whoever calls now fails
	for n := 2; n <= 20; n++ {
		if got, want := a.mustAdd(t, c, n), fmt.Sprintf("[10.0.0.%d]", n); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	a.net.cut.Store(false)
	if n := a.net.calls("LIST"); n != 0 {
		t.Errorf("a node made %d LISTs", n)
	}
	b := newBox(t, server.Config(t), "b").start(t)
	if got := b.mustAdd(t, c, 101); got == "[10.0.0.1]" || !strings.HasPrefix(got, "[10.0.") {
		t.Errorf("another node's first pod has %s", got)
	}
}

func TestDualStackTakesOneOfEach(t *testing.T) {
	c := shared(t, newSpace(), `"ipRanges":[{"range":"10.0.0.0/24"},{"range":"fd00::/64"}]`)
	a := newBox(t, server.Config(t), "a").start(t)
	if got := a.mustAdd(t, c, 1); got != "[10.0.0.1 fd00::1]" {
		t.Errorf("got %s", got)
	}
}

// TestWideRangeOfWhichTheBeginningIsExcluded: there are more cells in what is left out
// than a claim can count.
func TestWideRangeOfWhichTheBeginningIsExcluded(t *testing.T) {
	c := shared(t, newSpace(), `"range":"fd00::/48","exclude":["fd00::/56"]`)
	a := newBox(t, server.Config(t), "a").start(t)
	if got := a.mustAdd(t, c, 1); got != "[fd00:0:0:100::]" {
		t.Errorf("got %s", got)
	}
}

func TestWithTheAPIDownADDGoesOnWhileSlotsRemainAndDELAlways(t *testing.T) {
	c := shared(t, newSpace(), roomy)
	a := newBox(t, server.Config(t), "a").start(t)
	a.mustAdd(t, c, 1)
	a.net.cut.Store(true)
	for n := 2; n <= 32; n++ {
		a.mustAdd(t, c, n)
	}
	_, err := a.add(t.Context(), c, pod(33))
	if err == nil || errors.Is(err, ipam.ErrExhausted) {
		t.Fatalf("an unreachable server is not exhaustion: %v", err)
	}
	a.mustDel(t, 7)
	a.kill()
	a.start(t) // still cut off
	eventually(t, 5*time.Second, "the freed address is given again", func() bool {
		got, err := a.add(t.Context(), c, pod(34))
		return err == nil && fmt.Sprint(got) == "[10.0.0.7]"
	})
	a.net.cut.Store(false)
	a.mustAdd(t, c, 35)
}

func TestAfterARebootAReturningPodHasItsAddressAgain(t *testing.T) {
	c := shared(t, newSpace(), roomy)
	a := newBox(t, server.Config(t), "a").start(t)
	a.mustAdd(t, c, 1)
	want := a.mustAdd(t, c, 2)
	a.kill()
	a.start(t)
	if err := a.book.Update("boot", func(s ipam.Store) error {
		l := ipam.NewLedger(s)
		l.Distrust()
		return errors.Join(l.Err(), ipam.Release(s, "n", pod(1)), ipam.Release(s, "n", pod(2)))
	}); err != nil {
		t.Fatal(err)
	}
	again := pod(2)
	again.Container = "after the reboot"
	got, err := a.add(t.Context(), c, again)
	if err != nil || fmt.Sprint(got) != want {
		t.Errorf("got %v, %v, want %s", got, err, want)
	}
}

func TestALostJournalLosesNoAddress(t *testing.T) {
	space := newSpace()
	c := shared(t, space, roomy)
	a := newBox(t, server.Config(t), "a")
	a.options.IdleAfter = 100 * time.Millisecond
	a.start(t)
	a.mustAdd(t, c, 1)
	a.kill()
	if err := os.Remove(a.path); err != nil {
		t.Fatal(err)
	}
	a.start(t)
	if err := a.node.Rebuild(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, 15*time.Second, "every slot is free again", func() bool { return entries(t, space) == 0 })
}

// TestInvariant5LostRecordsAreSuspectElsewhereToo: a node that lost its journal
// cannot tell which addresses live pods have. It gives them all back, and whoever
// claims them next has to probe.
func TestInvariant5LostRecordsAreSuspectElsewhereToo(t *testing.T) {
	space := newSpace()
	c := shared(t, space, `"range":"10.0.0.0/24"`)
	a, b := newBox(t, server.Config(t), "a").start(t), newBox(t, server.Config(t), "b").start(t)
	live := a.mustAdd(t, c, 1)
	a.kill()
	if err := os.Remove(a.path); err != nil {
		t.Fatal(err)
	}
	a.start(t)
	if err := a.node.Rebuild(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, 15*time.Second, "every slot is given back", func() bool { return entries(t, space) == 0 })
	if got := b.mustAdd(t, c, 2); got != live {
		t.Fatalf("the next pod has %s, the test wants %s", got, live)
	}
	if !b.lease(t, c, pod(2)).Addresses[0].Suspect {
		t.Errorf("%s, which a live pod has, is given to another without a probe", live)
	}
}

func TestSmallRangeOverManyNodes(t *testing.T) {
	space := newSpace()
	c := shared(t, space, `"range":"10.0.0.0/27"`)
	boxes := make([]*box, 50)
	for i := range boxes {
		boxes[i] = newBox(t, server.Config(t), fmt.Sprintf("n%d", i)).start(t)
	}
	var mu sync.Mutex
	got := map[string]int{}
	var wg sync.WaitGroup
	for i := range 30 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			addrs, err := boxes[i].add(t.Context(), c, pod(i))
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Errorf("pod %d: %v", i, err)
			}
			got[fmt.Sprint(addrs)]++
		}()
	}
	wg.Wait()
	if len(got) != 30 {
		t.Fatalf("%d addresses for 30 pods: %v", len(got), got)
	}
	_, err := boxes[40].add(t.Context(), c, pod(40))
	var full *ipam.SharedExhaustedError
	if !errors.As(err, &full) {
		t.Fatalf("the 31st: %v", err)
	}
	for _, part := range []string{space, "10.0.0.1-10.0.0.30", "30 addresses, 30 with nodes", "25 more nodes", "0 in quarantine"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}
	boxes[3].mustDel(t, 3)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	for {
		_, err := boxes[41].add(ctx, c, pod(41))
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			t.Fatalf("after one DEL: %v", err)
		}
	}
}

func TestIdleWindowsGoToWhoStarves(t *testing.T) {
	c := shared(t, newSpace(), `"range":"10.0.0.0/18","range_end":"10.0.0.40"`)
	wide := shared(t, c.Cluster.Space, roomy)
	a, b := newBox(t, server.Config(t), "a").start(t), newBox(t, server.Config(t), "b").start(t)
	a.mustAdd(t, wide, 1) // takes 32 of the 40
	for n := 101; n <= 139; n++ {
		b.mustAdd(t, c, n)
	}
	if _, err := b.add(t.Context(), c, pod(140)); !errors.Is(err, ipam.ErrExhausted) {
		t.Errorf("got %v", err)
	}
}

func TestAskedAddressNamesItsHolder(t *testing.T) {
	c := shared(t, newSpace(), roomy)
	a, b := newBox(t, server.Config(t), "a").start(t), newBox(t, server.Config(t), "b").start(t)
	a.mustAdd(t, c, 1)
	if got := b.mustAdd(t, c, 2, "10.0.0.200"); got != "[10.0.0.200]" {
		t.Errorf("free: %s", got)
	}
	if got := b.mustAdd(t, c, 3, "10.0.0.20"); got != "[10.0.0.20]" {
		t.Errorf("idle elsewhere: %s", got)
	}
	_, err := b.add(t.Context(), c, pod(4), "10.0.0.1")
	var r *refusal.Refusal
	if !errors.As(err, &r) || !strings.Contains(r.Allowed, "held by pod blue/p1 on node a") {
		t.Errorf("in use: %v", err)
	}
}

// TestInvariant9RefusalNamesThePlaceOfTheAddressAskedFor: the first of the two is there
// on the node, the second is not.
func TestInvariant9RefusalNamesThePlaceOfTheAddressAskedFor(t *testing.T) {
	c := shared(t, newSpace(), `"ipRanges":[{"range":"10.0.0.0/24"},{"range":"fd00::/64"}]`)
	a, b := newBox(t, server.Config(t), "a").start(t), newBox(t, server.Config(t), "b").start(t)
	a.mustAdd(t, c, 1, "10.0.0.9", "fd00::9")
	b.mustAdd(t, c, 2, "10.0.0.8", "fd00::8")
	b.mustDel(t, 2)
	_, err := b.add(t.Context(), c, pod(2), "10.0.0.8", "fd00::9")
	var r *refusal.Refusal
	if !errors.As(err, &r) || r.Field != "ips[1]" || r.Value != `"fd00::9"` {
		t.Errorf("got %v", err)
	}
}

// TestWhatTheAPIServerRefusesIsSaidInItsWords: whoever reads the pod's event has to
// mend it.
func TestWhatTheAPIServerRefusesIsSaidInItsWords(t *testing.T) {
	space := newSpace()
	o := pod(1)
	o.Claim = "default/" + space
	makeIPAMClaim(t, space)
	for name, tt := range map[string]struct {
		owner ipam.Owner
		want  []string
	}{
		"block": {pod(2), []string{`User "stranger" cannot`, `resource "addressblocks"`}},
		"claim": {o, []string{`User "stranger" cannot get resource "ipamclaims"`}},
	} {
		t.Run(name, func(t *testing.T) {
			config := rest.CopyConfig(server.Config(t))
			config.Impersonate.UserName = "stranger"
			a := newBox(t, config, "a").start(t)
			_, err := a.add(t.Context(), shared(t, space, roomy), tt.owner)
			for _, part := range tt.want {
				if err == nil || !strings.Contains(err.Error(), part) {
					t.Errorf("%v does not say %s", err, part)
				}
			}
		})
	}
}
