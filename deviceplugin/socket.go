package deviceplugin

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
	registerapi "k8s.io/kubelet/pkg/apis/pluginregistration/v1"

	"github.com/tendril-cni/tendril/cni/refusal"
)

// socket is a service listening at a path.
type socket struct {
	*service
	// file is the socket's inode, by which it is known from one that another
	// process has put in its place.
	file   os.FileInfo
	server *grpc.Server
	// done is closed when the server has stopped accepting, for whatever
	// reason.
	done chan struct{}
}

// maxSocketPath is what sockaddr_un has room for (unix(7)), less the final NUL.
const maxSocketPath = 107

// listen serves svc at its path. The socket is bound under a name with a
// leading dot, which the kubelet passes over, and renamed when it accepts
// connections: the kubelet never meets one that does not answer, and one that
// was left behind is replaced in the same step.
func listen(svc *service) (*socket, error) {
	hidden := filepath.Join(filepath.Dir(svc.path), "."+filepath.Base(svc.path))
	if len(hidden) > maxSocketPath {
		return nil, refusal.New(fmt.Sprintf("resource %q", svc.resource), "socket", svc.path,
			fmt.Sprintf("a path of at most %d bytes: a shorter resource name or kubelet directory", maxSocketPath-1))
	}
	if err := os.Remove(hidden); err != nil && !os.IsNotExist(err) {
		return nil, fmt.Errorf("remove stale socket: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: hidden, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen for %s: %w", svc.resource, err)
	}
	// The name will be another one by then, and perhaps another's.
	l.SetUnlinkOnClose(false)
	file, err := publish(hidden, svc.path)
	if err != nil {
		l.Close()
		os.Remove(hidden)
		return nil, fmt.Errorf("place socket %s: %w", svc.path, err)
	}
	s := &socket{service: svc, file: file, server: grpc.NewServer(), done: make(chan struct{})}
	pluginapi.RegisterDevicePluginServer(s.server, svc)
	registerapi.RegisterRegistrationServer(s.server, svc)
	// The goroutine belongs to the socket and ends with close.
	go func() {
		// The error is close's doing, or shows as a socket that is not intact.
		_ = s.server.Serve(l)
		close(s.done)
	}()
	return s, nil
}

func publish(hidden, path string) (os.FileInfo, error) {
	if err := os.Chmod(hidden, 0o600); err != nil {
		return nil, err
	}
	file, err := os.Lstat(hidden)
	if err != nil {
		return nil, err
	}
	return file, os.Rename(hidden, path)
}

// serving reports whether connections are accepted.
func (s *socket) serving() bool {
	select {
	case <-s.done:
		return false
	default:
		return true
	}
}

// placed reports whether the path leads to this socket, and whether it leads to
// another file instead.
func (s *socket) placed() (here, other bool) {
	now, err := os.Lstat(s.path)
	if err != nil {
		return false, false
	}
	here = os.SameFile(now, s.file)
	return here, !here
}

// closeGrace is how long calls under way may take to end; they take
// milliseconds, and a connection that does not end is cut.
const closeGrace = time.Second

// close removes the socket, if it is still this one, and ends the service.
func (s *socket) close() {
	if here, _ := s.placed(); here {
		// One that is gone meanwhile is as good as removed.
		_ = os.Remove(s.path)
	}
	close(s.stop)
	cut := time.AfterFunc(closeGrace, s.server.Stop)
	s.server.GracefulStop()
	cut.Stop()
	<-s.done
}
