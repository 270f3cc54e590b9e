package sweep

import (
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// counter counts the calls by which this process may change the kernel, and ends
// the process before the fatal one.
type counter struct {
	// path is a file that has the count, as 8 bytes.
	path string
	// fatal is the number, from 1, of the call that is not made any more; 0 counts
	// alone.
	fatal int
	// files is a directory whose files count as the kernel's do; empty for none.
	files string
	// armed says that calls count from now on.
	armed atomic.Bool
}

// Of linux/seccomp.h, which package unix does not have.
const (
	flagTSync       = 1 << 0
	flagNewListener = 1 << 3
	flagTSyncESRCH  = 1 << 4
	retUserNotify   = 0x7fc00000
	retAllow        = 0x7fff0000
	notifyReceive   = 0xc0502100
	notifySend      = 0xc0182101
	flagContinue    = 1
)

// notification is struct seccomp_notif, answer struct seccomp_notif_resp.
type notification struct {
	id    uint64
	pid   uint32
	flags uint32
	nr    int32
	arch  uint32
	ip    uint64
	args  [6]uint64
}

type answer struct {
	id    uint64
	val   int64
	err   int32
	flags uint32
}

// install puts the filter on all threads of the process and starts the goroutine
// that answers it, which lives as long as the process. The goroutine makes none
// of the calls that are filtered.
func (c *counter) install() error {
	file, err := os.Create(c.path)
	if err != nil {
		return err
	}
	program := filter()
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flagTSync|flagTSyncESRCH|flagNewListener, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return errno
	}
	go c.serve(int(fd), file)
	return nil
}

// filter lets sendto, unlinkat, and openat for writing, be asked about.
func filter() []unix.SockFilter {
	const (
		nr    = 0  // offsetof(struct seccomp_data, nr)
		flags = 32 // the low half of args[2]: openat(dir, path, flags, mode)
	)
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	return []unix.SockFilter{
		load(nr),
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_SENDTO, Jt: 5},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_UNLINKAT, Jt: 4},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_OPENAT, Jf: 2},
		load(flags),
		{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, K: unix.O_ACCMODE, Jt: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: retAllow},
		{Code: unix.BPF_RET | unix.BPF_K, K: retUserNotify},
	}
}

func (c *counter) serve(fd int, file *os.File) {
	count := 0
	for {
		var n notification
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), notifyReceive, uintptr(unsafe.Pointer(&n))); errno != 0 {
			if errno == unix.EINTR || errno == unix.ENOENT {
				continue
			}
			fmt.Fprintln(os.Stderr, "receive seccomp notification:", errno)
			die()
		}
		if c.armed.Load() && c.changes(n) {
			count++
			if count == c.fatal {
				die()
			}
			if _, err := file.WriteAt(binary.NativeEndian.AppendUint64(nil, uint64(count)), 0); err != nil {
				fmt.Fprintln(os.Stderr, "write count:", err)
				die()
			}
		}
		a := answer{id: n.id, flags: flagContinue}
		// ENOENT: the call was interrupted by a signal and will be made again.
		_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(fd), notifySend, uintptr(unsafe.Pointer(&a)))
	}
}

// changes says whether the call is one that counts: a message to the kernel, or a
// file of the kernel's, or below c.files, opened for writing or removed. The path
// is this process' own memory, and the thread that owns it waits for the answer.
func (c *counter) changes(n notification) bool {
	if n.nr == unix.SYS_SENDTO {
		return true
	}
	var path []byte
	for at := uintptr(n.args[1]); len(path) < unix.PathMax; at++ {
		b := *(*byte)(*(*unsafe.Pointer)(unsafe.Pointer(&at)))
		if b == 0 {
			break
		}
		path = append(path, b)
	}
	if c.files != "" && strings.HasPrefix(string(path), c.files+"/") {
		return true
	}
	return strings.HasPrefix(string(path), "/sys/") || strings.HasPrefix(string(path), "/proc/sys/") || strings.HasPrefix(string(path), "/proc/thread-self/")
}
