package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/rpc"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/tendril-cni/tendril/cni/dhcp"
	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/cni/netns"
)

// leases is the dhcp.Store of the daemon: one file each.
type leases struct{ dir string }

func (l leases) file(clientID string) string {
	return filepath.Join(l.dir, strings.ReplaceAll(clientID, "/", "@")+".json")
}

// Save implements dhcp.Store.
func (l leases) Save(k dhcp.Kept) error {
	data, err := json.Marshal(k)
	if err != nil {
		return fmt.Errorf("encode lease: %w", err)
	}
	temp := l.file(k.Request.ClientID) + ".new"
	if err := os.WriteFile(temp, data, 0o600); err != nil {
		return fmt.Errorf("write lease: %w", err)
	}
	return os.Rename(temp, l.file(k.Request.ClientID))
}

// Forget implements dhcp.Store.
func (l leases) Forget(clientID string) error {
	if err := os.Remove(l.file(clientID)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("forget lease: %w", err)
	}
	return nil
}

// resume keeps what an earlier daemon kept. A pod that is gone needs no lease.
func (l leases) resume(k *dhcp.Keeper, prefix string, log *slog.Logger) error {
	files, err := filepath.Glob(filepath.Join(l.dir, "*.json"))
	if err != nil {
		return fmt.Errorf("list leases: %w", err)
	}
	for _, f := range files {
		var kept dhcp.Kept
		data, err := os.ReadFile(f)
		if err == nil {
			err = json.Unmarshal(data, &kept)
		}
		if err != nil {
			log.Warn("read stored lease", "file", f, "error", err)
			continue
		}
		ns, err := netns.Open(prefix + kept.Netns)
		if errors.Is(err, netns.ErrGone) {
			if err := l.Forget(kept.Request.ClientID); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		if err := errors.Join(k.Keep(ns, kept), ns.Close()); err != nil {
			return err
		}
	}
	return nil
}

// DHCP is the service of the reference's daemon (net/rpc over HTTP, methods
// DHCP.Allocate and DHCP.Release).
type DHCP struct {
	keeper *dhcp.Keeper
	prefix string
}

func request(args *skel.CmdArgs) (dhcp.Request, error) {
	c, err := read(args)
	if err != nil {
		return dhcp.Request{}, err
	}
	r, err := dhcp.Parse(c.ipam, netconf.Args(c.Args))
	r.ClientID, r.IfName = dhcp.ClientID(args.ContainerID, c.network.Name, args.IfName), args.IfName
	return r, err
}

// Allocate gets a lease and keeps it.
func (d *DHCP) Allocate(args *skel.CmdArgs, out *current.Result) error {
	r, err := request(args)
	if err != nil {
		return err
	}
	ns, err := netns.Open(d.prefix + args.Netns)
	if err != nil {
		return err
	}
	l, err := d.keeper.Acquire(context.Background(), ns, args.ContainerID, args.Netns, r)
	if err = errors.Join(err, ns.Close()); err != nil {
		return err
	}
	*out = result(l)
	return nil
}

// result is a lease as a CNI result.
func result(l dhcp.Lease) current.Result {
	ip := &current.IPConfig{Address: ipNet(l.Address.Prefix)}
	if gw := l.Address.Gateway; gw.IsValid() {
		ip.Gateway = gw.AsSlice()
	}
	res := current.Result{CNIVersion: current.ImplementedSpecVersion, IPs: []*current.IPConfig{ip}}
	for _, rt := range l.Routes {
		route := &types.Route{Dst: ipNet(rt.Dst), Priority: rt.Priority, Scope: rt.Scope}
		if rt.Via.IsValid() {
			route.GW = rt.Via.AsSlice()
		}
		res.Routes = append(res.Routes, route)
	}
	return res
}

func ipNet(p netip.Prefix) net.IPNet {
	return net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// Release ends the keeping and gives the lease back.
func (d *DHCP) Release(args *skel.CmdArgs, _ *struct{}) error {
	r, err := request(args)
	if err != nil {
		return err
	}
	ns, err := netns.Open(d.prefix + args.Netns)
	if args.Netns == "" || errors.Is(err, netns.ErrGone) {
		return d.keeper.Drop(nil, r.ClientID)
	}
	if err != nil {
		return err
	}
	return errors.Join(d.keeper.Drop(ns, r.ClientID), ns.Close())
}

// daemon is `dhcp daemon`: it serves the executables until it is told to end.
// The leases stay with the servers and on disk, and the next one goes on.
func daemon(arguments []string, log *slog.Logger) int {
	flags := flag.NewFlagSet("daemon", flag.ExitOnError)
	pidfile := flags.String("pidfile", "", "a file for the process id")
	prefix := flags.String("hostprefix", "", "where the host's root is mounted")
	socket := flags.String("socketpath", defaultSocket, "the socket to listen on")
	for _, name := range []string{"timeout", "resendmax", "resendtimeout"} {
		flags.Duration(name, 0, "taken for compatibility; the client has its own times")
	}
	flags.Bool("broadcast", true, "taken for compatibility; answers are always asked for by broadcast")
	if err := flags.Parse(arguments); err != nil {
		return 2
	}
	if err := serve(*pidfile, *prefix, *socket, log); err != nil {
		fmt.Fprintln(os.Stderr, "dhcp daemon:", err)
		return 1
	}
	return 0
}

func serve(pidfile, prefix, socket string, log *slog.Logger) error {
	store := leases{dir: filepath.Join(prefix, "/run/cni/tendril/dhcp")}
	if err := os.MkdirAll(store.dir, 0o700); err != nil {
		return fmt.Errorf("make lease directory: %w", err)
	}
	if pidfile != "" {
		if err := os.WriteFile(pidfile, []byte(strconv.Itoa(os.Getpid())), 0o644); err != nil {
			return fmt.Errorf("write pidfile: %w", err)
		}
	}
	keeper := dhcp.NewKeeper(store, log)
	defer keeper.Close()
	if err := store.resume(keeper, prefix, log); err != nil {
		return err
	}
	ln, err := listen(prefix + socket)
	if err != nil {
		return err
	}
	server := rpc.NewServer()
	if err := server.RegisterName("DHCP", &DHCP{keeper: keeper, prefix: prefix}); err != nil {
		return fmt.Errorf("register service: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle(rpc.DefaultRPCPath, server)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	web := &http.Server{Handler: mux}
	done := make(chan struct{})
	go func() {
		defer close(done)
		<-ctx.Done()
		_ = web.Close()
	}()
	err = web.Serve(ln)
	stop()
	<-done
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// listenFD is the first descriptor that systemd hands over (sd_listen_fds(3)).
const listenFD = 3

// listen opens the socket, or takes the one that systemd listens on; one that an
// earlier daemon left behind is replaced.
func listen(socket string) (net.Listener, error) {
	if os.Getenv("LISTEN_PID") == strconv.Itoa(os.Getpid()) {
		if n := os.Getenv("LISTEN_FDS"); n != "1" {
			return nil, fmt.Errorf("listen on the socket of systemd: LISTEN_FDS is %q, want 1", n)
		}
		f := os.NewFile(listenFD, "socket of systemd")
		ln, err := net.FileListener(f) // with a descriptor of its own
		return ln, errors.Join(err, f.Close())
	}
	if err := os.MkdirAll(filepath.Dir(socket), 0o700); err != nil {
		return nil, fmt.Errorf("make socket directory: %w", err)
	}
	if conn, err := net.Dial("unix", socket); err == nil {
		return nil, errors.Join(fmt.Errorf("listen on %s: another daemon does", socket), conn.Close())
	}
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("replace socket: %w", err)
	}
	return net.Listen("unix", socket)
}
