//go:build lab

package hostdevice_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netns/netnstest"
)

// firstVF returns the PCI address and the device of a VF.
func firstVF(t *testing.T) (pci string, dev netlink.Link) {
	t.Helper()
	devices, _ := filepath.Glob("/sys/class/net/sriov0/device/virtfn0/net/*")
	if len(devices) == 0 {
		t.Fatal("sriov0 has no VF with a network device")
	}
	to, err := os.Readlink("/sys/class/net/sriov0/device/virtfn0")
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Base(to), netnstest.Link(t, netnstest.Handle(t, nil), filepath.Base(devices[0]))
}

// TestVFComesBack: from a pod that lives, and from one whose namespace the kernel
// is tearing down while DEL runs.
func TestVFComesBack(t *testing.T) {
	for name, torn := range map[string]bool{"pod alive": false, "namespace gone": true} {
		t.Run(name, func(t *testing.T) {
			pci, was := firstVF(t)
			pod, d := netnstest.Pod(t), driver()
			a := netnstest.Attachment("host-device", `{"pciBusID":"`+pci+`"}`)
			a.Device, a.MAC = pci, "02:00:00:00:00:77"
			r := netnstest.MustAttach(t, d, pod, a)
			host := netnstest.Handle(t, nil)
			netnstest.Absent(t, host, was.Attrs().Name)
			var ns *os.File
			if torn {
				if err := pod.Close(); err != nil {
					t.Fatal(err)
				}
			} else {
				ns = pod
			}
			// An error means "not yet": DEL is called again, as a runtime does.
			var err error
			for deadline := time.Now().Add(30 * time.Second); ; {
				if err = d.Detach(context.Background(), ns, cni.Record{Attachment: r.Attachment, Prior: r.Prior}); err == nil || time.Now().After(deadline) {
					break
				}
			}
			if err = errors.Join(err, d.Detach(ctx, ns, r)); err != nil {
				t.Fatal(err)
			}
			back := netnstest.Link(t, host, was.Attrs().Name).Attrs()
			if back.HardwareAddr.String() != was.Attrs().HardwareAddr.String() || back.Alias != was.Attrs().Alias || back.MTU != was.Attrs().MTU || back.Flags&1 != was.Attrs().Flags&1 {
				t.Errorf("came back as %+v, was %+v", back, was.Attrs())
			}
		})
	}
}

// TestVFThatItsPodMarkedAnewComesBack: the mark that the pod wrote comes back with
// the VF, whether DEL fetches it or the end of the namespace sends it.
func TestVFThatItsPodMarkedAnewComesBack(t *testing.T) {
	for name, torn := range map[string]bool{"pod alive": false, "namespace gone": true} {
		t.Run(name, func(t *testing.T) {
			pci, was := firstVF(t)
			pod, d := netnstest.Pod(t), driver()
			a := netnstest.Attachment("host-device", `{"pciBusID":"`+pci+`"}`)
			a.Device = pci
			r := netnstest.MustAttach(t, d, pod, a)
			inside := netnstest.Handle(t, pod)
			if err := inside.LinkSetAlias(netnstest.Link(t, inside, "net1"), "mine"); err != nil {
				t.Fatal(err)
			}
			ns := pod
			if torn {
				inside.Close()
				if ns = nil; pod.Close() != nil {
					t.Fatal("the namespace stays")
				}
			}
			var err error
			for deadline := time.Now().Add(30 * time.Second); ; {
				if err = d.Detach(context.Background(), ns, r); err == nil || time.Now().After(deadline) {
					break
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			if back := netnstest.Link(t, netnstest.Handle(t, nil), was.Attrs().Name).Attrs(); back.Alias != was.Attrs().Alias {
				t.Errorf("came back as %+v, was %+v", back, was.Attrs())
			}
		})
	}
}
