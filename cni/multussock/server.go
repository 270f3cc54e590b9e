package multussock

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/cni/refusal"
)

// Server answers clients of the Multus daemon. All fields are required.
type Server struct {
	// Call serves a CNI call of the runtime and returns its standard output.
	Call func(ctx context.Context, command string, r cni.Request) ([]byte, error)
	// Delegate serves ADD, DEL or CHECK of one network of a running pod.
	Delegate func(ctx context.Context, command string, r cni.Request, network netconf.Network, el netconf.Element) ([]byte, error)
	// Ready says why an ADD would not be served, or nil.
	Ready func(ctx context.Context) error
	// Open opens a network namespace; fs.ErrNotExist where there is none.
	Open func(path string) (*os.File, error)
	Log  *slog.Logger
}

const (
	// mostBody bounds a request.
	mostBody = 8 << 20
	// callTime bounds a call: the clients themselves set no limit.
	callTime = 2 * time.Minute
	// farewell is how long Serve waits for requests that are under way.
	farewell = 10 * time.Second
)

// request is the body of /cni and /delegate (pkg/server/api, Request).
type request struct {
	Env        map[string]string `json:"env"`
	Config     []byte            `json:"config"`
	Attributes attributes        `json:"interfaceAttributes"`
}

// attributes are what a pod asks for beside the configuration.
type attributes struct {
	IPs     []string                   `json:"ips"`
	MAC     string                     `json:"mac"`
	CNIArgs map[string]json.RawMessage `json:"cni-args"`
}

// response is the body of a successful ADD.
type response struct {
	Result json.RawMessage
}

// Serve answers on ln until ctx ends, and then the requests under way.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	server := &http.Server{Handler: s.handler(), ReadHeaderTimeout: farewell, ErrorLog: slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug)}
	ended := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
		defer cancel()
		ended <- server.Shutdown(last)
	})
	defer stop()
	err := server.Serve(ln)
	if errors.Is(err, http.ErrServerClosed) {
		return <-ended
	}
	return fmt.Errorf("serve clients of Multus: %w", err)
}

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /cni", s.answer(s.call))
	mux.HandleFunc("POST /delegate", s.answer(s.delegate))
	for _, method := range []string{"GET", "POST"} {
		mux.HandleFunc(method+" /healthz", func(http.ResponseWriter, *http.Request) {})
		mux.HandleFunc(method+" /readyz", func(w http.ResponseWriter, r *http.Request) {
			if err := s.Ready(r.Context()); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
			}
		})
	}
	return mux
}

// answer reads a request, has it served, and writes what became of it.
func (s *Server) answer(serve func(context.Context, string, cni.Request, request) ([]byte, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), callTime)
		defer cancel()
		ctx = cni.WithCallID(ctx, cni.NewCallID("multus"))
		out, err := s.serve(ctx, http.MaxBytesReader(w, r.Body, mostBody), serve)
		if err != nil {
			s.Log.ErrorContext(ctx, "request refused", "path", r.URL.Path, "error", err)
			refuse(w, err)
			return
		}
		if len(out) == 0 {
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(response{Result: out})
	}
}

func (s *Server) serve(ctx context.Context, body io.Reader, serve func(context.Context, string, cni.Request, request) ([]byte, error)) ([]byte, error) {
	var in request
	if err := json.NewDecoder(body).Decode(&in); err != nil {
		return nil, fmt.Errorf("decode request: %w", err)
	}
	call, err := s.request(in)
	if err != nil {
		return nil, err
	}
	if call.Netns != nil {
		defer call.Netns.Close()
	}
	return serve(ctx, in.Env["CNI_COMMAND"], call, in)
}

// request makes the engine's form of a call. The namespace is opened here, since
// the client sends its path alone.
func (s *Server) request(in request) (cni.Request, error) {
	r := cni.Request{
		ContainerID: in.Env["CNI_CONTAINERID"], IfName: in.Env["CNI_IFNAME"], NetnsPath: in.Env["CNI_NETNS"],
		Args: netconf.Args(in.Env["CNI_ARGS"]), Path: in.Env["CNI_PATH"], Config: in.Config,
	}
	switch command := in.Env["CNI_COMMAND"]; command {
	case "ADD", "DEL", "CHECK":
		if r.ContainerID == "" || r.IfName == "" {
			return r, refusal.New("request", "env", r.ContainerID+" "+r.IfName, "CNI_CONTAINERID and CNI_IFNAME that are not empty")
		}
	case "GC", "STATUS":
		return r, nil
	default:
		return r, refusal.New("request", "env.CNI_COMMAND", command, "ADD, DEL, CHECK, GC, STATUS")
	}
	if r.NetnsPath == "" {
		return r, nil
	}
	ns, err := s.Open(r.NetnsPath)
	switch {
	case err == nil:
		r.Netns = ns
	case in.Env["CNI_COMMAND"] == "ADD":
		return r, err
	}
	return r, nil
}

func (s *Server) call(ctx context.Context, command string, r cni.Request, _ request) ([]byte, error) {
	return s.Call(ctx, command, r)
}

func (s *Server) delegate(ctx context.Context, command string, r cni.Request, in request) ([]byte, error) {
	if command != "ADD" && command != "DEL" && command != "CHECK" {
		return nil, refusal.New("request", "env.CNI_COMMAND", command, "ADD, DEL, CHECK")
	}
	network, err := netconf.ParseNetwork("config of the request", in.Config, "")
	if err != nil {
		return nil, err
	}
	el := netconf.Element{IPs: in.Attributes.IPs, MAC: strings.ToLower(in.Attributes.MAC), CNIArgs: in.Attributes.CNIArgs}
	if network, err = netconf.WithArgs(network, el.CNIArgs); err != nil {
		return nil, refusal.Name(err, "config of the request")
	}
	return s.Delegate(ctx, command, r, network, el)
}

// refuse writes err as Multus does: a CNI error object where there is one.
func refuse(w http.ResponseWriter, err error) {
	wire := cni.Wire(err)
	var typed *types.Error
	var refused *refusal.Refusal
	if !errors.As(err, &typed) && !errors.As(err, &refused) && wire.Code == types.ErrInternal {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusBadRequest)
	_ = json.NewEncoder(w).Encode(wire)
}
