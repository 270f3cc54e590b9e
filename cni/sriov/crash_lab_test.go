//go:build lab

package sriov_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netns"
	"github.com/tendril-cni/tendril/cni/netns/netnstest"
	"github.com/tendril-cni/tendril/cni/sriov"
)

// childMark makes the test binary a process that attaches or detaches one VF and
// may be killed while it does.
const childMark = "TENDRIL_TEST_SRIOV_CHILD"

// child reads a record from its standard input, says "ready", waits for a line,
// and does what the mark says with the namespace on descriptor 3.
func child() {
	in := bufio.NewReader(os.Stdin)
	var r cni.Record
	line, err := in.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &r)
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	d := sriov.New(sys, slog.New(slog.DiscardHandler))
	ns := os.NewFile(3, "pod")
	fmt.Println("ready")
	_, _ = in.ReadByte()
	if os.Getenv(childMark) == "attach" {
		_, err = d.Attach(context.Background(), ns, r)
	} else {
		err = d.Detach(context.Background(), ns, r)
	}
	fmt.Println("done", err)
	os.Exit(0)
}

// killed runs verb on r in a child, which is killed after so long. It returns
// how long the child took where it was not (after < 0).
func killed(b *bench, verb string, ns *os.File, r cni.Record, after time.Duration) time.Duration {
	b.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), childMark+"="+verb)
	cmd.ExtraFiles = []*os.File{ns}
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err1 != nil || err2 != nil {
		b.Fatal(err1, err2)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	record, err := json.Marshal(r)
	if err != nil {
		b.Fatal(err)
	}
	say := bufio.NewReader(out)
	_, _ = in.Write(append(record, '\n'))
	if line, err := say.ReadString('\n'); line != "ready\n" {
		b.Fatalf("child says %q, %v", line, err)
	}
	began := time.Now()
	_, _ = in.Write([]byte{'\n'})
	if after >= 0 {
		time.Sleep(after) // the moment of the kill, not a wait for anything
		_ = cmd.Process.Kill()
	}
	said, _ := io.ReadAll(say)
	took := time.Since(began)
	_ = cmd.Wait()
	if after < 0 && string(said) != "done <nil>\n" {
		b.Fatalf("child says %q", said)
	}
	return took
}

// TestInvariant3KilledAnywhere kills ADD, and DEL, with SIGKILL at moments spread
// over their run, replays Detach with the intent alone, and wants the world
// before. Once the namespace is gone by then, once it is not.
func TestInvariant3KilledAnywhere(t *testing.T) {
	const kills = 12
	b := take(t, 3)
	places := map[string]int{}
	pod := func() (*os.File, cni.Record) {
		ns := netnstest.Pod(t)
		r := b.record(ns, withoutRates)
		r.Attachment.Addresses = address("10.9.0.1/24")
		b.prior(&r)
		return ns, r
	}
	replay := func(when string, ns *os.File, r cni.Record, gone bool) {
		t.Helper()
		places[when[:3]+" "+place(b, ns, r)]++
		if gone {
			_ = ns.Close()
			b.detach(nil, r)
		} else {
			b.detach(ns, r)
		}
		b.back(when)
	}
	var ns *os.File
	var r cni.Record
	add, del := time.Hour, time.Hour
	for range 3 { // the shortest run, so that the kills fall into it
		ns, r = pod()
		add = min(add, killed(b, "attach", ns, r, -1))
		del = min(del, killed(b, "detach", ns, r, -1))
		b.back("after a whole run")
	}
	for i := range kills {
		ns, r = pod()
		killed(b, "attach", ns, r, add*time.Duration(i)/(kills-1))
		replay(fmt.Sprintf("ADD killed at %d of %d", i, kills), ns, r, i%2 == 1)
	}
	for i := range kills {
		ns, r = pod()
		b.attach(ns, &r)
		killed(b, "detach", ns, r, del*time.Duration(i)/(kills-1))
		replay(fmt.Sprintf("DEL killed at %d of %d", i, kills), ns, r, i%2 == 1)
	}
	b.unlocked()
	t.Logf("ADD takes %v, DEL %v; killed at %v", add, del, places)
}

// place says where a kill left the VF.
func place(b *bench, ns *os.File, r cni.Record) string {
	b.Helper()
	names, err := sys.Netdevs(b.vf.Addr)
	if err != nil {
		b.Fatal(err)
	}
	if len(names) == 0 {
		return "in the pod"
	}
	l := netnstest.Link(b.T, netnstest.Handle(b.T, nil), names[0])
	switch {
	case l.Attrs().Alias == "" && world(b.T) == b.world:
		return "untouched"
	case l.Attrs().Alias == netns.Mark(r.Attachment.ContainerID, r.Attachment.Network, r.Attachment.IfName):
		return "marked on the host"
	}
	return "on the host"
}

const port = "7007"

// listen answers TCP on ip inside ns until the test ends.
func listen(t *testing.T, ns *os.File, ip string) {
	t.Helper()
	var l net.Listener
	err := netns.Do(ns, func() (err error) {
		l, err = net.Listen("tcp4", net.JoinHostPort(ip, port))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.Close()
		}
	}()
}

// dial reaches ip from inside ns, or says why not.
func dial(ns *os.File, ip string) error {
	return netns.Do(ns, func() error {
		c, err := net.DialTimeout("tcp4", net.JoinHostPort(ip, port), 3*time.Second)
		if err == nil {
			_ = c.Close()
		}
		return err
	})
}
