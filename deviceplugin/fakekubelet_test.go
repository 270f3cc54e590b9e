package deviceplugin_test

import (
	"context"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
	registerapi "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

// fakeKubelet does the kubelet's side of device plugin registration over real
// sockets: it empties its directory and serves kubelet.sock at start, finds
// sockets in plugins_registry if it has one, calls back, and keeps the last
// list of every resource, which it prints.
type fakeKubelet struct {
	t    *testing.T
	root string
	// watcher is whether it has plugins_registry.
	watcher bool
	// told is called, set before start, with each list as it comes.
	told func(resource string, devices []*pluginapi.Device)

	cancel context.CancelFunc
	work   sync.WaitGroup
	server *grpc.Server

	// mu guards known, and the entries in it.
	mu    sync.Mutex
	known map[string]*known
	// refused are registrations turned down by refuse.
	refuse  bool
	refused int
}

// known is a resource the kubelet has a stream of.
type known struct {
	conn    *grpc.ClientConn
	client  pluginapi.DevicePluginClient
	options *pluginapi.DevicePluginOptions
	devices []*pluginapi.Device
	lists   int
	cancel  context.CancelFunc
}

func newKubelet(t *testing.T, watcher bool) *fakeKubelet {
	t.Helper()
	// Not t.TempDir: its name is longer than a socket's path may be.
	root, err := os.MkdirTemp("", "kl")
	if err != nil {
		t.Fatal(err)
	}
	k := &fakeKubelet{t: t, root: root, watcher: watcher}
	t.Cleanup(func() {
		k.stop()
		os.RemoveAll(root)
	})
	return k
}

func (k *fakeKubelet) plugins() string  { return filepath.Join(k.root, "device-plugins") }
func (k *fakeKubelet) registry() string { return filepath.Join(k.root, "plugins_registry") }

// socket is where the plugin for resource has its socket.
func (k *fakeKubelet) socket(resource string) string {
	dir := k.plugins()
	if k.watcher {
		dir = k.registry()
	}
	return filepath.Join(dir, strings.ReplaceAll(resource, "/", "_")+".sock")
}

func (k *fakeKubelet) start() {
	k.t.Helper()
	k.known = map[string]*known{}
	if k.watcher {
		k.must(os.MkdirAll(k.registry(), 0o755))
	}
	k.must(os.MkdirAll(k.plugins(), 0o755))
	stale, err := filepath.Glob(filepath.Join(k.plugins(), "*.sock"))
	k.must(err)
	for _, path := range stale {
		k.must(os.RemoveAll(path))
	}
	l, err := net.Listen("unix", filepath.Join(k.plugins(), "kubelet.sock"))
	k.must(err)
	ctx, cancel := context.WithCancel(context.Background())
	k.cancel = cancel
	k.server = grpc.NewServer()
	pluginapi.RegisterRegistrationServer(k.server, registrar{fakeKubelet: k, ctx: ctx})
	k.work.Go(func() { _ = k.server.Serve(l) })
	if k.watcher {
		k.work.Go(func() { k.watch(ctx) })
	}
}

// stop is a kubelet that is killed: nothing is tidied up but its own process.
func (k *fakeKubelet) stop() {
	if k.cancel == nil {
		return
	}
	k.cancel()
	k.server.Stop()
	k.work.Wait()
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, r := range k.known {
		r.conn.Close()
	}
	k.cancel, k.known = nil, nil
}

func (k *fakeKubelet) must(err error) {
	k.t.Helper()
	if err != nil {
		k.t.Fatal(err)
	}
}

type registrar struct {
	pluginapi.UnimplementedRegistrationServer
	*fakeKubelet
	ctx context.Context
}

// Register is the older way: the plugin calls.
func (k registrar) Register(_ context.Context, r *pluginapi.RegisterRequest) (*pluginapi.Empty, error) {
	k.mu.Lock()
	refuse := k.refuse
	if refuse {
		k.refused++
	}
	k.mu.Unlock()
	if refuse || r.Version != pluginapi.Version || filepath.Base(r.Endpoint) != r.Endpoint {
		return nil, fmt.Errorf("registration %v refused", r)
	}
	return &pluginapi.Empty{}, k.connect(k.ctx, r.ResourceName, filepath.Join(k.plugins(), r.Endpoint))
}

// watch is the newer way: sockets that appear are asked who they are, and
// those that go, or are replaced, are forgotten.
func (k *fakeKubelet) watch(ctx context.Context) {
	type seen struct {
		file os.FileInfo
		name string
	}
	at := map[string]seen{}
	for ctx.Err() == nil {
		paths, _ := filepath.Glob(filepath.Join(k.registry(), "[^.]*.sock"))
		for path, s := range at {
			now, err := os.Lstat(path)
			if err != nil || !os.SameFile(now, s.file) || !now.ModTime().Equal(s.file.ModTime()) {
				k.forget(s.name)
				delete(at, path)
			}
		}
		for _, path := range paths {
			if _, old := at[path]; old {
				continue
			}
			file, err := os.Lstat(path)
			if err != nil {
				continue
			}
			if name, err := k.introduce(ctx, path); err == nil {
				at[path] = seen{file, name}
			}
		}
		pause(ctx, 5*time.Millisecond)
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func (k *fakeKubelet) introduce(ctx context.Context, path string) (string, error) {
	conn, err := grpc.NewClient("unix://"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return "", err
	}
	defer conn.Close()
	reg := registerapi.NewRegistrationClient(conn)
	info, err := reg.GetInfo(ctx, &registerapi.InfoRequest{})
	if err != nil {
		return "", err
	}
	if info.Type != registerapi.DevicePlugin || !slices.Contains(info.SupportedVersions, pluginapi.Version) {
		return "", fmt.Errorf("bad info %v", info)
	}
	status := &registerapi.RegistrationStatus{PluginRegistered: true}
	if err := k.connect(ctx, info.Name, info.Endpoint); err != nil {
		status = &registerapi.RegistrationStatus{Error: err.Error()}
	}
	_, err = reg.NotifyRegistrationStatus(ctx, status)
	return info.Name, err
}

// connect opens the stream of a plugin and keeps what comes.
func (k *fakeKubelet) connect(ctx context.Context, name, path string) error {
	conn, err := grpc.NewClient("unix://"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	client := pluginapi.NewDevicePluginClient(conn)
	options, err := client.GetDevicePluginOptions(ctx, &pluginapi.Empty{})
	if err != nil {
		conn.Close()
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	r := &known{conn: conn, client: client, options: options, cancel: cancel}
	k.forget(name)
	k.mu.Lock()
	k.known[name] = r
	k.mu.Unlock()
	k.work.Go(func() {
		stream, err := client.ListAndWatch(ctx, &pluginapi.Empty{})
		for err == nil {
			var list *pluginapi.ListAndWatchResponse
			if list, err = stream.Recv(); err == nil {
				if k.told != nil {
					k.told(name, list.Devices)
				}
				k.mu.Lock()
				r.devices, r.lists = list.Devices, r.lists+1
				k.mu.Unlock()
			}
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		if k.known[name] == r {
			delete(k.known, name)
		}
	})
	return nil
}

// forget drops the stream of a resource, as a kubelet does that has an internal
// error with it.
func (k *fakeKubelet) forget(name string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if r := k.known[name]; r != nil {
		r.cancel()
		r.conn.Close()
		delete(k.known, name)
	}
}

// String prints the node's devices, resource by resource.
func (k *fakeKubelet) String() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(k.known)) {
		r := k.known[name]
		if r.lists == 0 {
			continue
		}
		fmt.Fprintf(&b, "%s:", name)
		for _, d := range r.devices {
			fmt.Fprintf(&b, " %s", strings.TrimPrefix(d.ID, "0000:"))
			if d.Health != pluginapi.Healthy {
				fmt.Fprintf(&b, "(%s)", d.Health)
			}
			for _, n := range d.GetTopology().GetNodes() {
				fmt.Fprintf(&b, "@%d", n.ID)
			}
		}
		b.WriteString("\n")
	}
	return b.String()
}

// client returns the connection to a resource's plugin.
func (k *fakeKubelet) client(name string) pluginapi.DevicePluginClient {
	k.t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.known[name] == nil {
		k.t.Fatalf("%s is not registered", name)
	}
	return k.known[name].client
}

// shows waits until the kubelet prints want.
func (k *fakeKubelet) shows(want ...string) {
	k.t.Helper()
	text := strings.Join(append(want, ""), "\n")
	waitFor(k.t, func() (string, bool) {
		got := k.String()
		return fmt.Sprintf("kubelet shows\n%swant\n%s", got, text), got == text
	})
}

// waitFor polls until ok, and fails with the last text after a deadline that is
// far beyond what anything here takes.
func waitFor(t *testing.T, ok func() (string, bool)) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		text, done := ok()
		if done {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(text)
		}
		time.Sleep(2 * time.Millisecond)
	}
}
