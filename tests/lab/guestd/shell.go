package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// terminals are the shells that are open, by the id their callers chose.
type terminals struct {
	mu   sync.Mutex // guards open
	open map[string]*os.File
}

// shell gives the connection to a login shell on a terminal of its own.
func (t *terminals) shell(w http.ResponseWriter, r *http.Request) {
	master, slave, err := openTerminal()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer func() { _ = master.Close() }()
	query := r.URL.Query()
	setSize(master, query)
	t.add(query.Get("id"), master)
	defer t.remove(query.Get("id"))

	cmd := exec.Command("/bin/bash", "-l")
	cmd.Env = environment([]string{"TERM=" + query.Get("term")})
	cmd.Dir = "/root"
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	err = cmd.Start()
	_ = slave.Close()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	join(w, master)
	// The terminal hanging up ends the shell, or the shell has ended it.
	_ = cmd.Process.Signal(syscall.SIGHUP)
	_ = cmd.Wait()
}

// join copies between the hijacked connection and a terminal until either ends.
func join(w http.ResponseWriter, master *os.File) {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	if _, err := io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: terminal\r\n\r\n"); err != nil {
		return
	}
	done := make(chan struct{}, 2)
	go func() { _, _ = io.Copy(master, buffered); done <- struct{}{} }()
	go func() { _, _ = io.Copy(conn, master); done <- struct{}{} }()
	<-done
}

func (t *terminals) resize(w http.ResponseWriter, r *http.Request) {
	t.mu.Lock()
	defer t.mu.Unlock()
	master, ok := t.open[r.URL.Query().Get("id")]
	if !ok {
		http.Error(w, "no such terminal", http.StatusNotFound)
		return
	}
	setSize(master, r.URL.Query())
}

func (t *terminals) add(id string, master *os.File) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open[id] = master
}

func (t *terminals) remove(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.open, id)
}

// openTerminal opens a new pseudo-terminal pair.
func openTerminal() (master, slave *os.File, err error) {
	master, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("open terminal: %w", err)
	}
	var number int
	err = control(master, func(fd int) error {
		if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
			return err
		}
		number, err = unix.IoctlGetInt(fd, unix.TIOCGPTN)
		return err
	})
	if err == nil {
		slave, err = os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("open terminal: %w", err), master.Close())
	}
	return master, slave, nil
}

// control runs f on the descriptor without taking the file out of the poller:
// a blocking master could not be closed while it is read.
func control(f *os.File, do func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var doErr error
	if err := raw.Control(func(fd uintptr) { doErr = do(int(fd)) }); err != nil {
		return err
	}
	return doErr
}

// setSize applies the rows and cols of a query, if it has both.
func setSize(master *os.File, query url.Values) {
	rows, err1 := strconv.ParseUint(query.Get("rows"), 10, 16)
	cols, err2 := strconv.ParseUint(query.Get("cols"), 10, 16)
	if err1 != nil || err2 != nil {
		return
	}
	_ = control(master, func(fd int) error {
		return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: uint16(rows), Col: uint16(cols)})
	})
}
