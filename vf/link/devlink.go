package link

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tendril-cni/tendril/vf"
)

// profilesFor is how long an answer holds: asking costs the NIC's firmware some
// milliseconds, and a package is loaded when the machine boots.
const profilesFor = time.Minute

// Profiles knows which package (DDP, dynamic device personalisation) each NIC's
// firmware has loaded. The zero Profiles is ready; Names may be called
// concurrently.
type Profiles struct {
	// mu guards the rest.
	mu    sync.Mutex
	asked time.Time
	names map[vf.Addr]string
}

// Names returns the names by the PCI address of the PF: devlink's "fw.app.name"
// (Documentation/networking/devlink/devlink-info.rst). NICs without a package, or
// whose driver has no devlink, are not in it; a kernel without devlink has none.
// The map must not be changed.
func (p *Profiles) Names() (map[vf.Addr]string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.names != nil && time.Since(p.asked) < profilesFor {
		return p.names, nil
	}
	devices, err := netlink.DevLinkGetDeviceList()
	if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EOPNOTSUPP) {
		return nil, fmt.Errorf("list devlink devices: %w", err)
	}
	names := map[vf.Addr]string{}
	for _, d := range devices {
		a, err := vf.ParseAddr(d.DeviceName)
		if d.BusName != "pci" || err != nil {
			continue
		}
		// A driver may refuse to tell; that is a NIC without a package.
		if info, err := netlink.DevlinkGetDeviceInfoByName(d.BusName, d.DeviceName); err == nil && info.FwAppName != "" {
			names[a] = info.FwAppName
		}
	}
	p.names, p.asked = names, time.Now()
	return names, nil
}
