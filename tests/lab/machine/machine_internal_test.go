package machine

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestOptionsAreChecked(t *testing.T) {
	for _, o := range []Options{{Index: 3}, {Index: -1}, {NumVFs: 8}, {NumVFs: -2}} {
		if _, err := o.withDefaults(); err == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
	o, err := Options{Repo: "/r"}.withDefaults()
	if err != nil || o.Index != 1 || o.NumVFs != TotalVFs || o.MemoryMiB != 2048 {
		t.Errorf("zero options become %+v, %v", o, err)
	}
}

// The two ends of a wire name the same two sockets, the other way round.
func TestWiresAreJoined(t *testing.T) {
	ends := map[int][]string{}
	for index := 1; index <= MaxMachines; index++ {
		o, err := Options{Index: index, Repo: "/r"}.withDefaults()
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range qemuArguments(parts{}, o, emulation, "/run/x/"+o.name()) {
			if strings.HasPrefix(a, "dgram,") {
				ends[index] = append(ends[index], a)
			}
		}
	}
	if len(ends[1]) != 2 || len(ends[2]) != 2 {
		t.Fatalf("wires are %v, want two for each machine", ends)
	}
	for i, end := range ends[1] {
		swapped := strings.NewReplacer("local.path", "remote.path", "remote.path", "local.path").Replace(ends[2][i])
		a, b := strings.Split(end, ","), strings.Split(swapped, ",")
		slices.Sort(a)
		slices.Sort(b)
		if !slices.Equal(a, b) {
			t.Errorf("wire %d: %s and %s do not meet", i, end, ends[2][i])
		}
	}
}

func TestLoadOrder(t *testing.T) {
	dep := filepath.Join(t.TempDir(), "modules.dep")
	text := `kernel/a/top-one.ko.xz: kernel/a/mid.ko.xz kernel/a/low.ko.xz
kernel/a/mid.ko.xz: kernel/a/low.ko.xz
kernel/a/low.ko.xz:
kernel/a/other.ko.xz:
`
	if err := os.WriteFile(dep, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := loadOrder(dep, []string{"built_in", "top_one", "mid"})
	want := []string{"kernel/a/low.ko.xz", "kernel/a/mid.ko.xz", "kernel/a/top-one.ko.xz"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("order is %v, %v, want %v", got, err, want)
	}
}

func TestArchiveIsAligned(t *testing.T) {
	var b bytes.Buffer
	c := &cpioWriter{w: &b}
	c.dir("dir")
	c.file("dir/file", []byte("12345"))
	if err := c.close(); err != nil {
		t.Fatal(err)
	}
	if b.Len()%4 != 0 {
		t.Errorf("archive has %d bytes", b.Len())
	}
	for rest := b.Bytes(); ; {
		i := bytes.Index(rest, []byte("070701"))
		if i < 0 {
			break
		}
		if (b.Len()-len(rest)+i)%4 != 0 {
			t.Errorf("header at %d", b.Len()-len(rest)+i)
		}
		rest = rest[i+6:]
	}
}
