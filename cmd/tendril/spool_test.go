package main_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/tendril-cni/tendril/cni/rpc"
	"github.com/tendril-cni/tendril/cni/spool"
)

func spoolIn(t *testing.T) *spool.Spool {
	t.Helper()
	s, err := spool.Open(filepath.Join(t.TempDir(), "spool"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func waiting(t *testing.T, s *spool.Spool) int {
	t.Helper()
	entries, err := s.List()
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func TestDelWithoutADaemonIsSpooled(t *testing.T) {
	s := spoolIn(t)
	conf := config(filepath.Join(t.TempDir(), "none"), `,"spool":"`+s.Dir()+`"`)
	for range 2 { // the runtime may repeat it
		if got := run(t, conf, environment("DEL")...); got.code != 0 || got.stdout != "" {
			t.Fatalf("DEL answered %+v, want success and no output", got)
		}
	}
	entries, err := s.List()
	if err != nil || len(entries) != 1 {
		t.Fatalf("spooled %+v (%v), want one DEL", entries, err)
	}
	if r := entries[0].Request; r.Command != "DEL" || r.ContainerID != "c1" || r.IfName != "eth0" || r.Path != "/opt/cni/bin" || string(r.StdinData) != conf {
		t.Errorf("spooled %+v, want the call as it was made", r)
	}
}

// TestInvariant1OnlyDelIsSpooled: no other verb may succeed without a daemon, nor
// a DEL that no daemon promised to read.
func TestInvariant1OnlyDelIsSpooled(t *testing.T) {
	s := spoolIn(t)
	netns := "CNI_NETNS=" + filepath.Join(t.TempDir(), "gone")
	none := filepath.Join(t.TempDir(), "none")
	for command, dir := range map[string]string{"CHECK": s.Dir(), "GC": s.Dir(), "STATUS": s.Dir(), "DEL": none} {
		got := run(t, config(none, `,"spool":"`+dir+`"`), environment(command, netns)...)
		if f := got.failure(t); f.Code != 11 && f.Code != 50 {
			t.Errorf("%s answered %+v, want to be asked again later", command, f)
		}
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "netns"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	got := run(t, config(none, `,"spool":"`+s.Dir()+`"`), environment("ADD", "CNI_NETNS="+file.Name())...)
	if f := got.failure(t); f.Code != 11 {
		t.Errorf("ADD answered %+v, want code 11", f)
	}
	if n := waiting(t, s); n != 0 {
		t.Errorf("%d calls are spooled, want none", n)
	}
}

func TestDelThatADaemonAnswersIsNotSpooled(t *testing.T) {
	s := spoolIn(t)
	socket := serve(t, func(context.Context, *rpc.Call) rpc.Reply {
		return rpc.Reply{Stdout: []byte(`{"code":999,"msg":"busy"}`), ExitCode: 1}
	})
	got := run(t, config(socket, `,"spool":"`+s.Dir()+`"`), environment("DEL")...)
	if f := got.failure(t); f.Code != 999 {
		t.Errorf("answer is %+v, want the daemon's", f)
	}
	if n := waiting(t, s); n != 0 {
		t.Errorf("%d calls are spooled, want none", n)
	}
}

// TestDelPastAFullSpoolIsAnError: success means that it will be done.
func TestDelPastAFullSpoolIsAnError(t *testing.T) {
	s := spoolIn(t)
	huge := make([]byte, spool.MaxSize)
	for i := range huge {
		huge[i] = 'x'
	}
	got := run(t, config(filepath.Join(t.TempDir(), "none"), `,"x":"`+string(huge)+`","spool":"`+s.Dir()+`"`), environment("DEL")...)
	if f := got.failure(t); f.Code != 11 {
		t.Errorf("answer is %+v, want code 11", f)
	}
}
