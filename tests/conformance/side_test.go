package conformance

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tendril-cni/tendril/cni/netns"
	"github.com/tendril-cni/tendril/cni/netns/netnstest"
)

// side is one set of executables with a host and a pod of its own.
type side struct {
	t    testing.TB
	name string // reference or tendril
	bin  string
	host *os.File
	pod  *os.File
}

// states are the directories in which executables keep state. They are emptied
// for each side, and are the test's own: they are mounted once.
var mountOnce = sync.OnceValue(func() error {
	var errs []error
	for _, dir := range []string{"/var/lib", "/run"} {
		errs = append(errs, unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0755"))
	}
	return errors.Join(errs...)
})

// newSide makes a fresh host with a link up0, a peer of which is on the wire,
// and a pod.
func newSide(t testing.TB, name string) *side {
	t.Helper()
	if err := mountOnce(); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"/var/lib/cni", "/run/cni"} {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	dir, err := nearby()
	if err != nil {
		t.Fatal(err)
	}
	s := &side{t: t, name: name, bin: filepath.Join(dir, name), host: netnstest.Pod(t), pod: netnstest.Pod(t)}
	if _, err := os.Stat(filepath.Join(s.bin, "macvlan")); err != nil {
		t.Fatal(err)
	}
	h := s.handle(s.host)
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr = "up0", []byte{2, 0xaa, 0, 0, 0, 1}
	peer := []byte{2, 0xaa, 0, 0, 0, 2}
	if err := h.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "wire0", PeerHardwareAddr: peer}); err != nil {
		t.Fatal(err)
	}
	for _, n := range []string{"lo", "up0", "wire0"} {
		if err := h.LinkSetUp(netnstest.Link(t, h, n)); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func (s *side) handle(ns *os.File) *netlink.Handle { return netnstest.Handle(s.t, ns) }

// path is a file name under which other processes find a namespace.
func path(ns *os.File) string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), ns.Fd()) }

// call is one CNI call of a case.
type call struct {
	verb, container, ifName, args string
	netns                         string // a path, "" for the pod's, "none" for none
	conf                          map[string]any
}

// answer is what came of it.
type answer struct {
	out  map[string]any
	code int // of the error object, 0 for success
	text string
}

// run executes the plugin named by the configuration's type on the host.
func (s *side) run(c call) answer {
	s.t.Helper()
	kind, _ := c.conf["type"].(string)
	stdin, err := json.Marshal(c.conf)
	if err != nil {
		s.t.Fatal(err)
	}
	if c.container == "" {
		c.container = "pod1"
	}
	if c.ifName == "" {
		c.ifName = "net1"
	}
	at := path(s.pod)
	if c.netns != "" {
		at = strings.TrimPrefix(c.netns, "none")
	}
	var out, errOut bytes.Buffer
	cmd := exec.Command(filepath.Join(s.bin, kind))
	cmd.Args[0] = kind
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &out, &errOut
	cmd.Env = append(os.Environ(), "CNI_COMMAND="+c.verb, "CNI_CONTAINERID="+c.container, "CNI_IFNAME="+c.ifName,
		"CNI_NETNS="+at, "CNI_PATH="+s.bin, "CNI_ARGS="+c.args)
	// The process is born in the network namespace of the thread that starts it.
	if err := netns.Do(s.host, cmd.Start); err != nil {
		s.t.Fatal(err)
	}
	failed := cmd.Wait()
	a := answer{text: out.String() + errOut.String()}
	if out.Len() > 0 {
		if err := json.Unmarshal(out.Bytes(), &a.out); err != nil {
			s.t.Fatalf("%s %s %s printed what is no JSON: %s", s.name, kind, c.verb, out.String())
		}
	}
	if failed != nil {
		a.code = -1
		if code, ok := a.out["code"].(float64); ok {
			a.code = int(code)
		}
	}
	return a
}

// add runs ADD of every plugin of a chain and returns the last answer.
func (s *side) add(chain []map[string]any, c call) (answer, []map[string]any) {
	s.t.Helper()
	var a answer
	var done []map[string]any
	for _, conf := range chain {
		if a.out != nil {
			conf = with(conf, "prevResult", a.out)
		}
		c.verb, c.conf = "ADD", conf
		if a = s.run(c); a.code != 0 {
			return a, done
		}
		done = append(done, conf)
	}
	return a, done
}

// each runs a verb for every plugin of a chain that was added, in reverse for
// DEL, and returns the codes.
func (s *side) each(verb string, done []map[string]any, last map[string]any, c call) (codes []int, text string) {
	s.t.Helper()
	for i := range done {
		conf := done[i]
		if verb == "DEL" {
			conf = done[len(done)-1-i]
		}
		if last != nil {
			conf = with(conf, "prevResult", last)
		}
		c.verb, c.conf = verb, conf
		a := s.run(c)
		codes, text = append(codes, a.code), text+a.text
	}
	return codes, text
}

// with returns a copy of conf with one key set.
func with(conf map[string]any, key string, value any) map[string]any {
	out := map[string]any{key: value}
	for k, v := range conf {
		if k != key {
			out[k] = v
		}
	}
	return out
}
