package sriov

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/tendril-cni/tendril/cni/netns"
	"github.com/tendril-cni/tendril/vf"
)

// inPod returns the VF's network device inside ns, by its PCI address, whatever
// its name is there. ErrNotFound of package netns if it is not there.
func inPod(ns *os.File, a vf.Addr) (netns.Link, error) {
	conn, err := netns.Dial(ns)
	if err != nil {
		return netns.Link{}, err
	}
	defer func() { _ = conn.Close() }()
	links, err := conn.Links()
	if err != nil {
		return netns.Link{}, err
	}
	var old []netns.Link
	for _, l := range links {
		switch {
		case l.ParentDev == a.String():
			return l, nil
		case l.ParentDev == "" && l.Kind == "" && l.Flags&unix.IFF_LOOPBACK == 0:
			old = append(old, l)
		}
	}
	return byBusInfo(ns, old, a)
}

// byBusInfo asks the drivers of links for their bus address (ETHTOOL_GDRVINFO),
// for kernels before 5.14, which do not report the parent device.
func byBusInfo(ns *os.File, links []netns.Link, a vf.Addr) (found netns.Link, err error) {
	missing := fmt.Errorf("find VF %s in the pod: %w", a, netns.ErrNotFound)
	if len(links) == 0 {
		return netns.Link{}, missing
	}
	err = netns.Do(ns, func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("ask for bus addresses: %w", err)
		}
		defer func() { _ = unix.Close(fd) }()
		for _, l := range links {
			info, err := unix.IoctlGetEthtoolDrvinfo(fd, l.Name)
			if err == nil && unix.ByteSliceToString(info.Bus_info[:]) == a.String() {
				found = l
				return nil
			}
		}
		return missing
	})
	return found, err
}
