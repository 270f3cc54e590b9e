package podresources

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	api "k8s.io/kubelet/pkg/apis/podresources/v1"
)

// Errors of Devices, to be tested with errors.Is.
var (
	// ErrUnknownPod is a pod that the kubelet has not heard of, or has let go.
	ErrUnknownPod = errors.New("pod is not known to the kubelet")
	// ErrNoSocket is a kubelet that is not there, has its directory elsewhere,
	// or whose directory is not mounted.
	ErrNoSocket = errors.New("kubelet has no pod resources socket here")
)

// maxAnswer is the limit on one answer, in bytes. List tells about every
// container of the node, and gRPC's own 4 MiB have been too few.
const maxAnswer = 16 << 20

// Client talks to one kubelet. The connection is made at the first call, kept,
// and made again after the kubelet was away.
type Client struct {
	path string
	conn *grpc.ClientConn
	api  api.PodResourcesListerClient
}

// New returns a client for the kubelet whose directory is kubeletRoot
// (/var/lib/kubelet). It does not connect.
func New(kubeletRoot string) (*Client, error) {
	path := filepath.Join(kubeletRoot, "pod-resources", "kubelet.sock")
	conn, err := grpc.NewClient("unix://"+path,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswer)),
		// The default grows to two minutes, which a pod's start would wait for
		// after the kubelet was away.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, MaxDelay: time.Second},
			MinConnectTimeout: time.Second,
		}))
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", path, err)
	}
	return &Client{path: path, conn: conn, api: api.NewPodResourcesListerClient(conn)}, nil
}

// Close ends the connection.
func (c *Client) Close() error { return c.conn.Close() }

// Devices returns the device ids that the pod's containers hold, by extended
// resource, in the kubelet's order over containers and their devices. An id
// that two containers share is there once. A pod without devices gives an empty
// map. Init containers that have ended are not told about by the kubelet.
//
// It wraps ErrUnknownPod, ErrNoSocket or the kubelet's own gRPC status.
func (c *Client) Devices(ctx context.Context, namespace, name string) (map[string][]string, error) {
	pod, err := c.pod(ctx, namespace, name)
	if err != nil {
		return nil, fmt.Errorf("read devices of pod %s/%s: %w", namespace, name, c.explain(err))
	}
	return devices(pod), nil
}

// Held is a device that a container of a pod holds.
type Held struct {
	Namespace, Pod, Container string
	// Resource is the extended resource as which the device was given out, by
	// any device plugin, and ID what that plugin calls it.
	Resource, ID string
}

// All returns what all pods of the node hold, in the kubelet's order over pods,
// containers and devices; a device that containers share is there for each. It
// wraps ErrNoSocket or the kubelet's own gRPC status. Kubelets before 1.34 list
// pods that have ended too, until they are deleted.
func (c *Client) All(ctx context.Context) ([]Held, error) {
	all, err := c.api.List(ctx, &api.ListPodResourcesRequest{})
	if err != nil {
		return nil, fmt.Errorf("read devices of all pods: %w", c.explain(err))
	}
	var list []Held
	for _, pod := range all.GetPodResources() {
		for _, container := range pod.GetContainers() {
			for _, d := range container.GetDevices() {
				for _, id := range d.GetDeviceIds() {
					list = append(list, Held{Namespace: pod.GetNamespace(), Pod: pod.GetName(), Container: container.GetName(), Resource: d.GetResourceName(), ID: id})
				}
			}
		}
	}
	return list, nil
}

// pod prefers Get; kubelets before 1.34 have it only behind a feature gate.
func (c *Client) pod(ctx context.Context, namespace, name string) (*api.PodResources, error) {
	one, err := c.api.Get(ctx, &api.GetPodResourcesRequest{PodNamespace: namespace, PodName: name})
	if err == nil && one.GetPodResources() != nil {
		return one.GetPodResources(), nil
	}
	if err != nil && !absent(err) {
		return nil, err
	}
	all, err := c.api.List(ctx, &api.ListPodResourcesRequest{})
	if err != nil {
		return nil, err
	}
	for _, pod := range all.GetPodResources() {
		if pod.GetNamespace() == namespace && pod.GetName() == name {
			return pod, nil
		}
	}
	return nil, ErrUnknownPod
}

// absent reports whether the kubelet has no Get: too old to know the method, or
// the feature gate is off, which it tells without a code of its own.
func absent(err error) bool {
	st := status.Convert(err)
	return st.Code() == codes.Unimplemented ||
		st.Code() == codes.Unknown && strings.Contains(st.Message(), "disabled")
}

// explain adds what the gRPC status does not say.
func (c *Client) explain(err error) error {
	st := status.Convert(err)
	switch {
	case st.Code() == codes.NotFound,
		st.Code() == codes.Unknown && strings.Contains(st.Message(), "not found"):
		return fmt.Errorf("%w (%w)", ErrUnknownPod, err)
	case st.Code() == codes.Unavailable:
		if _, missing := os.Stat(c.path); missing != nil {
			return fmt.Errorf("%w (%w)", ErrNoSocket, missing)
		}
	}
	return err
}

func devices(pod *api.PodResources) map[string][]string {
	held := map[string][]string{}
	for _, container := range pod.GetContainers() {
		for _, d := range container.GetDevices() {
			for _, id := range d.GetDeviceIds() {
				if list := held[d.GetResourceName()]; !slices.Contains(list, id) {
					held[d.GetResourceName()] = append(list, id)
				}
			}
		}
	}
	return held
}
