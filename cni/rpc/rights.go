package rpc

import (
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
)

// writeWith writes a frame with f's descriptor (SCM_RIGHTS, unix(7)) beside its
// first byte. A nil f sends none.
func writeWith(conn *net.UnixConn, frame []byte, f *os.File) error {
	n := 0
	if f != nil {
		sent, _, err := conn.WriteMsgUnix(frame, syscall.UnixRights(int(f.Fd())), nil)
		if err != nil {
			return err
		}
		n = sent // a stream may take less than all; the descriptor went with it
	}
	_, err := conn.Write(frame[n:])
	return err
}

// readFirst reads a connection's first frame and the descriptor that came with
// it, if one did. The descriptor is close-on-exec: net sets MSG_CMSG_CLOEXEC.
func readFirst(conn *net.UnixConn) (kind byte, data []byte, f *os.File, err error) {
	var h header
	// Room for a second descriptor, so that one too many is seen and closed
	// instead of being cut off.
	oob := make([]byte, syscall.CmsgSpace(2*4))
	n, oobn, flags, _, err := conn.ReadMsgUnix(h[:], oob)
	if err != nil {
		return 0, nil, nil, err
	}
	if f, err = received(oob[:oobn], flags); err != nil {
		return 0, nil, nil, err
	}
	if n == 0 {
		err = io.EOF
	} else if _, err = io.ReadFull(conn, h[n:]); err == nil {
		kind, data, err = body(conn, h)
	}
	if err != nil && f != nil {
		f.Close()
		f = nil
	}
	return kind, data, f, err
}

// received takes the one descriptor out of a control message.
func received(oob []byte, flags int) (*os.File, error) {
	messages, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("parse control message: %w", err)
	}
	var fds []int
	for i := range messages {
		got, err := syscall.ParseUnixRights(&messages[i])
		if err == nil {
			fds = append(fds, got...)
		}
	}
	if len(fds) > 1 || flags&syscall.MSG_CTRUNC != 0 {
		for _, fd := range fds {
			_ = syscall.Close(fd)
		}
		return nil, fmt.Errorf("request carries %d file descriptors or more; allowed: 0..1", len(fds))
	}
	if len(fds) == 0 {
		return nil, nil
	}
	return os.NewFile(uintptr(fds[0]), "netns"), nil
}
