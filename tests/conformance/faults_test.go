package conformance

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tendril-cni/tendril/cni/netns"
	"github.com/tendril-cni/tendril/cni/netns/netnstest"
)

// empty checks that neither pod, host nor state hold anything of an attachment.
func (s *side) empty() {
	s.t.Helper()
	links, err := s.handle(s.pod).LinkList()
	if err != nil || len(links) != 1 {
		s.t.Errorf("the pod has links %v, %v", links, err)
	}
	for _, pattern := range []string{"/var/lib/cni/networks/blue/[0-9]*", "/var/lib/cni/tendril/*/*"} {
		if left, _ := filepath.Glob(pattern); len(left) > 0 {
			s.t.Errorf("left: %v", left)
		}
	}
	netnstest.Link(s.t, s.handle(s.host), "up0")
}

func (s *side) must(c call) answer {
	s.t.Helper()
	a := s.run(c)
	if a.code != 0 {
		s.t.Fatalf("%s: %s", c.verb, a.text)
	}
	return a
}

// kinds are configurations with addresses on disk.
func kinds() map[string]map[string]any {
	return map[string]map[string]any{
		"macvlan":     conf("macvlan", "master", "up0", "ipam", hostLocal("10.1.0.0/24")),
		"bridge":      conf("bridge", "bridge", "br0", "ipam", hostLocal("10.1.0.0/24")),
		"host-device": conf("host-device", "device", "up0", "ipam", hostLocal("10.1.0.0/24")),
	}
}

// TestInvariant2DelIsDone: twice, without a namespace, without a configuration
// that would still be valid, and with the host broken.
func TestInvariant2DelIsDone(t *testing.T) {
	for name, c := range kinds() {
		t.Run(name, func(t *testing.T) {
			s := newSide(t, "tendril")
			s.must(call{verb: "ADD", conf: c})
			broken := with(with(c, "master", "nosuch0"), "mode", "nonsense")
			s.must(call{verb: "DEL", conf: broken, netns: "none"})
			s.must(call{verb: "DEL", conf: c})
			s.must(call{verb: "DEL", conf: c, netns: "/var/run/netns/nosuch"})
			s.empty()
		})
	}
	t.Run("master gone", func(t *testing.T) {
		s := newSide(t, "tendril")
		c := kinds()["macvlan"]
		s.must(call{verb: "ADD", conf: c})
		h := s.handle(s.host)
		if err := h.LinkDel(netnstest.Link(t, h, "up0")); err != nil {
			t.Fatal(err)
		}
		s.must(call{verb: "DEL", conf: c})
		if left, _ := filepath.Glob("/var/lib/cni/networks/blue/10*"); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	})
}

// TestInvariant2FailedAddLeavesNothing: the ipam fails, or what follows it does.
func TestInvariant2FailedAddLeavesNothing(t *testing.T) {
	for name, change := range map[string]func(map[string]any) map[string]any{
		"no ipam executable": func(c map[string]any) map[string]any { return with(c, "ipam", map[string]any{"type": "nosuch"}) },
		"range used up": func(c map[string]any) map[string]any {
			return with(c, "ipam", map[string]any{"type": "host-local", "ranges": []any{[]any{map[string]any{"subnet": "10.1.0.0/30", "rangeStart": "10.1.0.1", "rangeEnd": "10.1.0.1"}}}})
		},
		"unreachable gateway": func(c map[string]any) map[string]any {
			return with(c, "ipam", map[string]any{"type": "host-local", "subnet": "10.1.0.0/24", "routes": []any{map[string]any{"dst": "10.8.0.0/16", "gw": "10.99.0.1"}}})
		},
	} {
		for kind, c := range kinds() {
			t.Run(kind+", "+name, func(t *testing.T) {
				s := newSide(t, "tendril")
				a := s.run(call{verb: "ADD", conf: change(c)})
				if a.code == 0 {
					t.Fatal("it was added")
				}
				if name == "range used up" && a.code != 11 {
					t.Errorf("code %d for what may pass: %s", a.code, a.text)
				}
				s.empty()
			})
		}
	}
}

// TestInvariant3KilledAnywhere: ADD dies after more and more time; DEL finds what
// there is to undo.
func TestInvariant3KilledAnywhere(t *testing.T) {
	for kind, c := range kinds() {
		t.Run(kind, func(t *testing.T) {
			s := newSide(t, "tendril")
			killed := 0
			for delay := time.Duration(0); delay < 24*time.Millisecond; delay += 2 * time.Millisecond {
				if s.kill(c, delay) {
					killed++
				}
				s.must(call{verb: "DEL", conf: c})
				s.empty()
			}
			if killed == 0 {
				t.Error("no ADD was killed")
			}
		})
	}
}

// TestInvariant3HalfWrittenRecord: ADD died before its record had its name.
func TestInvariant3HalfWrittenRecord(t *testing.T) {
	for kind, name := range map[string]string{"macvlan": "pod1@net1", "host-device": "pod1@net1", "tuning": "pod1@net1@0a1b2c3d"} {
		t.Run(kind, func(t *testing.T) {
			s := newSide(t, "tendril")
			dir := filepath.Join("/var/lib/cni/tendril", kind)
			if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(filepath.Join(dir, ".new-"+name+".json"), []byte(`{"reco`), 0o600)); err != nil {
				t.Fatal(err)
			}
			s.must(call{verb: "DEL", conf: map[string]any{"cniVersion": "1.0.0", "name": "blue", "type": kind, "master": "up0", "device": "up0"}})
			s.empty()
		})
	}
}

// kill runs ADD and kills it after the delay; false if it was done by then.
func (s *side) kill(c map[string]any, delay time.Duration) bool {
	s.t.Helper()
	stdin, _ := json.Marshal(c)
	kind := c["type"].(string)
	cmd := exec.Command(filepath.Join(s.bin, kind))
	cmd.Args[0], cmd.Stdin = kind, strings.NewReader(string(stdin))
	cmd.Env = append(os.Environ(), "CNI_COMMAND=ADD", "CNI_CONTAINERID=pod1", "CNI_IFNAME=net1", "CNI_NETNS="+path(s.pod), "CNI_PATH="+s.bin)
	if err := netns.Do(s.host, cmd.Start); err != nil {
		s.t.Fatal(err)
	}
	stop := time.AfterFunc(delay, func() { _ = cmd.Process.Kill() })
	defer stop.Stop()
	_ = cmd.Wait()
	return cmd.ProcessState.Sys().(syscall.WaitStatus).Signaled()
}

func TestInvariant5SixtyFourPodsAtOnce(t *testing.T) {
	s := newSide(t, "tendril")
	c := conf("macvlan", "master", "up0", "ipam", map[string]any{"type": "host-local", "subnet": "10.1.0.0/25"})
	var g sync.WaitGroup
	var mu sync.Mutex // guards seen
	seen := map[string]string{}
	slots := make(chan struct{}, 16) // the machine is small
	for i := range 64 {
		pod := netnstest.Pod(t)
		g.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			at := call{verb: "ADD", conf: c, container: fmt.Sprint("c", i), netns: path(pod)}
			a := s.run(at)
			if a.code != 0 {
				t.Errorf("pod %d: %s", i, a.text)
				return
			}
			ip := fmt.Sprint(a.out["ips"].([]any)[0].(map[string]any)["address"])
			mu.Lock()
			if by, ok := seen[ip]; ok {
				t.Errorf("%s is of %s and of c%d", ip, by, i)
			}
			seen[ip] = at.container
			mu.Unlock()
			at.verb = "DEL"
			if a := s.run(at); a.code != 0 {
				t.Errorf("pod %d: %s", i, a.text)
			}
		})
	}
	g.Wait()
	s.empty()
}

func TestInvariant9MACCollision(t *testing.T) {
	s := newSide(t, "tendril")
	c := conf("macvlan", "master", "up0", "mac", "02:bb:00:00:00:01", "ipam", hostLocal("10.1.0.0/24"))
	other := netnstest.Pod(t)
	s.must(call{verb: "ADD", conf: c, container: "other", netns: path(other)})
	a := s.run(call{verb: "ADD", conf: c})
	if a.code != 7 || !strings.Contains(a.text, "02:bb:00:00:00:01") || !strings.Contains(a.text, "mac") || !strings.Contains(a.text, "other") {
		t.Errorf("answer %d: %s", a.code, a.text)
	}
	s.must(call{verb: "DEL", conf: c, container: "other", netns: path(other)})
	s.empty()
}

func TestGCKeepsWhatIsValid(t *testing.T) {
	s := newSide(t, "tendril")
	for kind, c := range map[string]map[string]any{"macvlan": kinds()["macvlan"], "bridge": kinds()["bridge"]} {
		c = with(c, "cniVersion", "1.1.0")
		keep, drop := netnstest.Pod(t), s.pod
		s.must(call{verb: "ADD", conf: c, container: "keep", netns: path(keep)})
		s.must(call{verb: "ADD", conf: c, container: "drop", netns: path(drop)})
		if a := s.run(call{verb: "GC", conf: c}); a.code == 0 {
			t.Error("GC without a list removes everything")
		}
		s.must(call{verb: "GC", conf: with(c, "cni.dev/valid-attachments", []any{map[string]any{"containerID": "keep", "ifname": "net1"}})})
		netnstest.Link(t, s.handle(keep), "net1")
		netnstest.Absent(t, s.handle(drop), "net1")
		if left, _ := filepath.Glob("/var/lib/cni/networks/blue/10*"); len(left) != 1 {
			t.Errorf("%s: leases %v", kind, left)
		}
		s.must(call{verb: "GC", conf: with(c, "cni.dev/valid-attachments", []any{})})
		s.empty()
	}
}

func TestInvariant9Status(t *testing.T) {
	s := newSide(t, "tendril")
	for name, test := range map[string]struct {
		conf map[string]any
		code int
	}{
		"fine":         {conf("macvlan", "master", "up0", "ipam", hostLocal("10.1.0.0/24")), 0},
		"bridge":       {conf("bridge", "bridge", "br0"), 0},
		"no master":    {conf("macvlan", "master", "nosuch0"), 50},
		"bad ipam":     {conf("macvlan", "master", "up0", "ipam", hostLocal("10.1.0.0/33")), 50},
		"not a bridge": {conf("bridge", "bridge", "up0"), 50},
	} {
		a := s.run(call{verb: "STATUS", conf: with(test.conf, "cniVersion", "1.1.0")})
		if a.code != test.code {
			t.Errorf("%s: %d, want %d: %s", name, a.code, test.code, a.text)
		}
	}
	s.empty()
}

func TestInvariant4OneDeviceOneOwner(t *testing.T) {
	s := newSide(t, "tendril")
	c := kinds()["host-device"]
	s.must(call{verb: "ADD", conf: c})
	if a := s.run(call{verb: "ADD", conf: c, container: "other", netns: path(netnstest.Pod(t))}); a.code == 0 || !strings.Contains(a.text, "up0") {
		t.Errorf("a device that is in a pod was given away: %s", a.text)
	}
	if a := s.run(call{verb: "ADD", conf: c}); a.code == 0 {
		t.Error("ADD twice succeeded")
	}
	s.must(call{verb: "CHECK", conf: with(c, "prevResult", map[string]any{"cniVersion": "1.0.0", "interfaces": []any{}})})
	s.must(call{verb: "DEL", conf: c})
	s.must(call{verb: "DEL", conf: c, container: "other"})
	s.empty()
}

// TestLeasesOfTheReferenceAreKept: a node changes from one to the other.
func TestLeasesOfTheReferenceAreKept(t *testing.T) {
	s := newSide(t, "reference")
	c := kinds()["macvlan"]
	s.must(call{verb: "ADD", conf: c, container: "old"})
	s.bin = strings.TrimSuffix(s.bin, "reference") + "tendril"
	a := s.must(call{verb: "ADD", conf: c, container: "new", ifName: "net2"})
	if text := fmt.Sprint(a.out["ips"]); !strings.Contains(text, "10.1.0.3/24") {
		t.Errorf("after 10.1.0.2 comes %s", text)
	}
	s.must(call{verb: "DEL", conf: c, container: "new", ifName: "net2"})
	s.must(call{verb: "DEL", conf: c, container: "old"})
	if left, _ := filepath.Glob("/var/lib/cni/networks/blue/10*"); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func TestVersions(t *testing.T) {
	for _, name := range []string{"reference", "tendril"} {
		s := newSide(t, name)
		for _, kind := range []string{"macvlan", "vrf", "host-local"} {
			a := s.must(call{verb: "VERSION", conf: map[string]any{"type": kind}})
			want := 7
			if kind == "vrf" {
				want = 4
			}
			if got := len(a.out["supportedVersions"].([]any)); got != want {
				t.Errorf("%s %s speaks %d versions, want %d", name, kind, got, want)
			}
		}
	}
}
