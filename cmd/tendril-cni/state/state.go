package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/tendril-cni/tendril/cni"
)

// Default is where the executables keep their records.
const Default = "/var/lib/cni/tendril"

// Dir is a directory of records.
type Dir struct{ path, boot string }

// Entry is one record with what only the executables need.
type Entry struct {
	Record cni.Record `json:"record"`
	// Layer tells apart the plugins of one kind in a chain, each of which changes the
	// same interface; empty for a plugin that makes one.
	Layer string `json:"layer,omitempty"`
	// Boot is the kernel's id of the boot that made it.
	Boot string `json:"boot"`
	// Stdin is the configuration as the runtime gave it to ADD, for the IPAM's
	// DEL.
	Stdin json.RawMessage `json:"stdin,omitempty"`
	// Leased says that the IPAM may hold addresses for it.
	Leased bool `json:"leased,omitempty"`
}

// Open returns the records below path, which is made if it is missing.
func Open(path string) (*Dir, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, fmt.Errorf("read boot id: %w", err)
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("make state directory: %w", err)
	}
	return &Dir{path: path, boot: strings.TrimSpace(string(boot))}, nil
}

// Stale reports whether e is of an earlier boot.
func (d *Dir) Stale(e Entry) bool { return e.Boot != d.boot }

// file is the path of a record. Container IDs and interface names were checked:
// they contain neither '/' nor '@'.
func (d *Dir) file(a cni.Attachment, layer string) string {
	name := a.ContainerID + "@" + a.IfName
	if layer != "" {
		name += "@" + layer
	}
	return filepath.Join(d.path, a.Kind, name+".json")
}

// Get returns the record of an attachment, of its kind, container and interface
// alone, and of that layer; ok is false if there is none.
func (d *Dir) Get(a cni.Attachment, layer string) (Entry, bool, error) {
	return read(d.file(a, layer))
}

func read(file string) (e Entry, ok bool, err error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return e, false, nil
	}
	if err != nil {
		return e, false, fmt.Errorf("read record: %w", err)
	}
	if json.Unmarshal(data, &e) != nil {
		return Entry{}, false, nil // cut short by a power failure: of an earlier boot
	}
	return e, true, nil
}

// Put writes e and makes it of this boot. A device that another record of this
// boot has is refused with *cni.InUse, and nothing is written.
func (d *Dir) Put(e *Entry) error {
	a := e.Record.Attachment
	e.Boot = d.boot
	data, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encode record: %w", err)
	}
	if a.Device == "" {
		return d.write(d.file(a, e.Layer), data)
	}
	unlock, err := d.Lock()
	if err != nil {
		return err
	}
	err = d.claim(a)
	if err == nil {
		err = d.write(d.file(a, e.Layer), data)
	}
	return errors.Join(err, unlock())
}

// claim refuses a device that another attachment has.
func (d *Dir) claim(a cni.Attachment) error {
	for _, kind := range []string{"sriov", "host-device"} {
		all, err := d.All(kind)
		if err != nil {
			return err
		}
		for _, e := range all {
			b := e.Record.Attachment
			if !d.Stale(e) && b.Device == a.Device && (b.ContainerID != a.ContainerID || b.IfName != a.IfName) {
				return &cni.InUse{Device: a.Device, Holder: fmt.Sprintf("interface %s of container %s", b.IfName, b.ContainerID)}
			}
		}
	}
	return nil
}

func (d *Dir) write(file string, data []byte) error {
	dir := filepath.Dir(file)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make state directory: %w", err)
	}
	// One name for each record, which has one writer at a time: what a kill leaves
	// behind is overwritten by the next ADD and removed by the DEL.
	f, err := os.OpenFile(part(file), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("write record: %w", err)
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write record: %w", err), os.Remove(f.Name()))
	}
	return nil
}

// Remove deletes the record of an attachment, of that layer; an absent one is deleted.
func (d *Dir) Remove(a cni.Attachment, layer string) error {
	file := d.file(a, layer)
	for _, name := range []string{part(file), file} {
		if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove record: %w", err)
		}
	}
	return nil
}

// Sweep deletes what processes that were killed have left of records of an
// attachment, of any layer, that were not whole yet.
func (d *Dir) Sweep(a cni.Attachment) error {
	begin := part(a.ContainerID + "@" + a.IfName)
	names, err := os.ReadDir(filepath.Join(d.path, a.Kind))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, n := range names {
		if rest, ok := strings.CutPrefix(n.Name(), begin); ok && (strings.HasPrefix(rest, "@") || rest == ".json") {
			if err := os.Remove(filepath.Join(d.path, a.Kind, n.Name())); !errors.Is(err, os.ErrNotExist) {
				errs = append(errs, err)
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove half of a record: %w", err)
	}
	return nil
}

// part is the name under which a record is written before it has its own.
func part(file string) string { return filepath.Join(filepath.Dir(file), ".new-"+filepath.Base(file)) }

// All returns the records of a kind.
func (d *Dir) All(kind string) ([]Entry, error) {
	files, err := filepath.Glob(filepath.Join(d.path, kind, "*.json"))
	if err != nil {
		return nil, fmt.Errorf("list records: %w", err)
	}
	var out []Entry
	for _, f := range files {
		e, ok, err := read(f)
		if err != nil {
			return nil, err
		}
		if ok {
			out = append(out, e)
		}
	}
	return out, nil
}

// Lock takes the directory's lock, waiting for other processes, and returns what
// gives it back.
func (d *Dir) Lock() (unlock func() error, err error) {
	f, err := os.OpenFile(filepath.Join(d.path, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock state directory: %w", err)
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if err != unix.EINTR {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock state directory: %w", err), f.Close())
	}
	return f.Close, nil
}
