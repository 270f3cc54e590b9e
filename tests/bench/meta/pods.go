package main

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	vns "github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tendril-cni/tendril/tests/bench/host"
)

const (
	namespace = "default"
	// The annotations of NPWG v1.3, sections 4.1 and 4.2.
	wantedAnnotation = "k8s.v1.cni.cncf.io/networks"
	statusAnnotation = "k8s.v1.cni.cncf.io/network-status"
)

// sandbox is a pod of one side: an object, and a namespace for it.
type sandbox struct {
	side     *side
	name     string
	uid      string
	networks int
	netns    host.Pod
	conf     []byte // for DEL, once ADD was done
}

// args are CNI_ARGS as containerd and CRI-O give them.
func (b *sandbox) args() string {
	return "IgnoreUnknown=1;K8S_POD_NAMESPACE=" + namespace + ";K8S_POD_NAME=" + b.name + ";K8S_POD_INFRA_CONTAINER_ID=" + b.uid + ";K8S_POD_UID=" + b.uid
}

// scheduled is how long it takes from a pod's being bound to its ADD, at the
// least: the kubelet sees the pod when the daemons do, and has its images,
// volumes and control group to think of before.
const scheduled = 300 * time.Millisecond

// sandboxes makes n pods of the side with that many networks each.
func (s *stand) sandboxes(ctx context.Context, one *side, n, networks int) ([]*sandbox, error) {
	var wanted []string
	for i := range networks {
		wanted = append(wanted, fmt.Sprintf("n%d", i))
	}
	out := make([]*sandbox, n)
	for i := range out {
		p, err := s.client.CoreV1().Pods(namespace).Create(ctx, &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("%s-%d", one.name, one.made), Annotations: map[string]string{wantedAnnotation: strings.Join(wanted, ",")}},
			Spec:       corev1.PodSpec{NodeName: one.name, Containers: []corev1.Container{{Name: "c", Image: "none"}}},
		}, metav1.CreateOptions{})
		if err != nil {
			return nil, fmt.Errorf("make pods: %w", err)
		}
		one.made++
		out[i] = &sandbox{side: one, name: p.Name, uid: string(p.UID), networks: networks}
		if out[i].netns, err = s.pods.Fresh(); err != nil {
			return nil, err
		}
	}
	pause(ctx, scheduled)
	return out, nil
}

// forget deletes the objects.
func (s *stand) forget(ctx context.Context, all []*sandbox) error {
	now := int64(0)
	for _, b := range all {
		if err := s.client.CoreV1().Pods(namespace).Delete(ctx, b.name, metav1.DeleteOptions{GracePeriodSeconds: &now}); err != nil {
			return fmt.Errorf("delete pods: %w", err)
		}
	}
	return nil
}

// add makes the call and nothing else.
func (b *sandbox) add(ctx context.Context) (time.Duration, error) {
	result, took, err := b.side.caller.Call(ctx, "ADD", b.netns, b.uid, b.args(), b.side.caller.Conf)
	if err == nil {
		b.conf, err = host.WithResult(b.side.caller.Conf, result)
	}
	return took, err
}

// del makes the call and nothing else.
func (b *sandbox) del(ctx context.Context) (time.Duration, error) {
	_, took, err := b.side.caller.Call(ctx, "DEL", b.netns, b.uid, b.args(), b.conf)
	return took, err
}

// attached waits for network-status, and looks for every interface.
func (s *stand) attached(ctx context.Context, b *sandbox) error {
	err := host.Await(ctx, "network-status of "+b.name, func() (bool, error) {
		p, err := s.client.CoreV1().Pods(namespace).Get(ctx, b.name, metav1.GetOptions{})
		if err != nil || p.Annotations[statusAnnotation] == "" {
			return false, err
		}
		var status []struct{ Interface string }
		err = json.Unmarshal([]byte(p.Annotations[statusAnnotation]), &status)
		return len(status) == b.networks+1, err
	})
	if err != nil {
		return err
	}
	return b.has(b.networks + 1)
}

// has counts the interfaces that are up and have an IPv4 address.
func (b *sandbox) has(want int) error {
	h, err := netlink.NewHandleAt(vns.NsHandle(b.netns.File.Fd()), unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	links, err := h.LinkList()
	if err != nil {
		return err
	}
	seen := 0
	for _, l := range links {
		if l.Attrs().Name == "lo" {
			continue
		}
		addrs, err := h.AddrList(l, netlink.FAMILY_V4)
		if err != nil {
			return err
		}
		if len(addrs) == 1 && l.Attrs().Flags&unix.IFF_UP != 0 {
			seen++
		}
	}
	if seen != want {
		return fmt.Errorf("look at %s: %d interfaces with an address, want %d", b.name, seen, want)
	}
	return nil
}

// returned looks whether the reference has all its addresses back: its DEL says
// success whatever happens.
func (s *stand) returned() error {
	kept, err := filepath.Glob(hostLocalDir + "/*/10.*")
	if err == nil && len(kept) > 0 {
		err = fmt.Errorf("look at the reference's addresses: %d are not given back, such as %s", len(kept), kept[0])
	}
	return err
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
