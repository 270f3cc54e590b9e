package deviceplugin

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
	registerapi "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

// service answers the kubelet on one socket: the device plugin API and, for the
// plugin watcher, the registration API.
type service struct {
	pluginapi.UnimplementedDevicePluginServer
	registerapi.UnimplementedRegistrationServer

	resource string
	// path is the socket's own path, which the plugin watcher is told.
	path     string
	feed     *feed
	log      *slog.Logger
	allocate func([]Allocation) error

	// stop ends the streams when the socket goes away.
	stop chan struct{}
	// streams counts the ListAndWatch calls under way and heard those that
	// ever began; ended wakes the endpoint when one is over.
	streams, heard atomic.Int64
	ended          func()
}

// options is what the kubelet is told about us in both ways of registration.
func options() *pluginapi.DevicePluginOptions {
	return &pluginapi.DevicePluginOptions{GetPreferredAllocationAvailable: true}
}

// GetDevicePluginOptions implements pluginapi.DevicePluginServer.
func (s *service) GetDevicePluginOptions(context.Context, *pluginapi.Empty) (*pluginapi.DevicePluginOptions, error) {
	return options(), nil
}

// ListAndWatch sends the devices, and again each time that what the kubelet is
// told about them has changed.
func (s *service) ListAndWatch(_ *pluginapi.Empty, stream pluginapi.DevicePlugin_ListAndWatchServer) error {
	s.heard.Add(1)
	s.streams.Add(1)
	err := s.stream(stream)
	s.streams.Add(-1)
	s.ended()
	return err
}

func (s *service) stream(stream pluginapi.DevicePlugin_ListAndWatchServer) error {
	var sent *pluginapi.ListAndWatchResponse
	for {
		now := s.feed.now.Load()
		list := listed(now.pool)
		if sent == nil || !proto.Equal(sent, list) {
			if err := stream.Send(list); err != nil {
				return err
			}
			sent = list
		}
		select {
		case <-now.stale:
		case <-s.stop:
			return nil
		case <-stream.Context().Done():
			return nil
		}
	}
}

// listed is what the kubelet is told about a pool.
func listed(p *Pool) *pluginapi.ListAndWatchResponse {
	list := make([]*pluginapi.Device, len(p.Devices))
	for i, d := range p.Devices {
		list[i] = &pluginapi.Device{ID: d.ID, Health: pluginapi.Healthy}
		if !d.Healthy() {
			list[i].Health = pluginapi.Unhealthy
		}
		if d.NUMANode >= 0 && !p.Resource.ExcludeTopology {
			list[i].Topology = &pluginapi.TopologyInfo{Nodes: []*pluginapi.NUMANode{{ID: int64(d.NUMANode)}}}
		}
	}
	return &pluginapi.ListAndWatchResponse{Devices: list}
}

// Allocate answers all containers of the request from one pool, or none. A
// refused device is InvalidArgument with the refusal as its message.
func (s *service) Allocate(_ context.Context, req *pluginapi.AllocateRequest) (*pluginapi.AllocateResponse, error) {
	pool := s.feed.now.Load().pool
	resp := &pluginapi.AllocateResponse{}
	for _, c := range req.GetContainerRequests() {
		r, err := pool.Response(c.GetDevicesIds())
		if err != nil {
			return nil, status.Error(codes.InvalidArgument, err.Error())
		}
		resp.ContainerResponses = append(resp.ContainerResponses, wire(r))
	}
	var list []Allocation
	now := time.Now()
	for _, c := range req.GetContainerRequests() {
		list = append(list, Allocation{Resource: s.resource, IDs: c.GetDevicesIds(), Time: now})
	}
	if err := s.allocate(list); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	for _, a := range list {
		s.log.Debug("devices allocated", "resource", s.resource, "pci", a.IDs)
	}
	return resp, nil
}

func wire(r Response) *pluginapi.ContainerAllocateResponse {
	c := &pluginapi.ContainerAllocateResponse{Envs: r.Env}
	for _, n := range r.Nodes {
		c.Devices = append(c.Devices, &pluginapi.DeviceSpec{
			HostPath: n.Host, ContainerPath: n.Container, Permissions: n.Access,
		})
	}
	for _, name := range r.CDI {
		c.CdiDevices = append(c.CdiDevices, &pluginapi.CDIDevice{Name: name})
	}
	return c
}

// GetPreferredAllocation answers with Pool.Prefer.
func (s *service) GetPreferredAllocation(_ context.Context, req *pluginapi.PreferredAllocationRequest) (*pluginapi.PreferredAllocationResponse, error) {
	pool := s.feed.now.Load().pool
	resp := &pluginapi.PreferredAllocationResponse{}
	for _, c := range req.GetContainerRequests() {
		ids, err := pool.Prefer(c.GetAvailableDeviceIDs(), c.GetMustIncludeDeviceIDs(), int(c.GetAllocationSize()))
		if err != nil {
			return nil, status.Error(codes.InvalidArgument, err.Error())
		}
		resp.ContainerResponses = append(resp.ContainerResponses, &pluginapi.ContainerPreferredAllocationResponse{DeviceIDs: ids})
	}
	return resp, nil
}

// PreStartContainer is never asked for and does nothing.
func (s *service) PreStartContainer(context.Context, *pluginapi.PreStartContainerRequest) (*pluginapi.PreStartContainerResponse, error) {
	return &pluginapi.PreStartContainerResponse{}, nil
}

// GetInfo introduces the socket to the kubelet's plugin watcher.
func (s *service) GetInfo(context.Context, *registerapi.InfoRequest) (*registerapi.PluginInfo, error) {
	return &registerapi.PluginInfo{
		Type:              registerapi.DevicePlugin,
		Name:              s.resource,
		Endpoint:          s.path,
		SupportedVersions: []string{pluginapi.Version},
	}, nil
}

// NotifyRegistrationStatus is the plugin watcher's verdict. A refused plugin
// stays where it is: the kubelet tries again by itself.
func (s *service) NotifyRegistrationStatus(_ context.Context, st *registerapi.RegistrationStatus) (*registerapi.RegistrationStatusResponse, error) {
	if st.GetPluginRegistered() {
		s.log.Info("resource registered", "resource", s.resource, "mode", "plugin watcher")
	} else {
		s.log.Warn("kubelet refused the resource", "resource", s.resource, "error", st.GetError())
	}
	return &registerapi.RegistrationStatusResponse{}, nil
}
