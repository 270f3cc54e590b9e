package rpc

import (
	"fmt"
	"net"
	"os"
	"syscall"
)

// PeerError says that a process of another user connected.
type PeerError struct {
	UID uint32
	PID int32
}

// Error implements error.
func (e *PeerError) Error() string {
	return fmt.Sprintf("peer process %d has uid %d; allowed: 0 and the daemon's own uid %d", e.PID, e.UID, os.Geteuid())
}

// checkPeer asks the kernel who connected (SO_PEERCRED, unix(7)). The mode of the
// socket file keeps others out already; this holds also where the file was moved
// or its mode was changed.
func checkPeer(conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return fmt.Errorf("peer credentials: %w", err)
	}
	var cred *syscall.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	if err == nil {
		err = credErr
	}
	if err != nil {
		return fmt.Errorf("peer credentials: %w", err)
	}
	if cred.Uid != 0 && int(cred.Uid) != os.Geteuid() {
		return &PeerError{UID: cred.Uid, PID: cred.Pid}
	}
	return nil
}
