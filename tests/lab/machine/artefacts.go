package machine

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/tendril-cni/tendril/tests/lab/cache"
)

// dropped are parts of packages that no machine looks at.
var dropped = []string{
	"usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info",
	"usr/share/lintian", "usr/share/bug", "usr/share/common-licenses",
	"usr/share/bash-completion", "usr/share/zsh", "var/cache",
}

// guestPackages are what the machine's root file system consists of, with their
// closure: a shell, what the tests call, and what kubelet, containerd and their
// pods need from a node.
var guestPackages = []string{
	"bash", "busybox-static", "coreutils", "findutils", "gawk", "grep", "gzip", "hostname", "sed", "tar", "xz-utils", "zstd",
	"libc-bin", "mount", "util-linux", "procps", "psmisc", "kmod", "e2fsprogs", "ncurses-base",
	"iproute2", "iputils-ping", "iputils-arping", "ethtool", "tcpdump", "pciutils", "netcat-openbsd",
	"iptables", "nftables", "conntrack", "ca-certificates", "runc",
}

// moduleDirs are the parts of the kernel's module tree that machines get: all
// kinds of interface, SR-IOV and vfio, container file systems, and whatever
// those need.
var moduleDirs = []string{
	"arch/x86/crypto", "block", "crypto", "drivers/block", "drivers/char/hw_random", "drivers/dca",
	"drivers/i2c/algos", "drivers/iommu", "drivers/infiniband/core", "drivers/infiniband/sw",
	"drivers/net/bonding", "drivers/net/ethernet/intel/igb", "drivers/net/ethernet/intel/igbvf",
	"drivers/net/ipvlan", "drivers/net/vxlan", "drivers/vdpa", "drivers/vfio", "drivers/virtio",
	"fs/9p", "fs/ext4", "fs/fuse", "fs/jbd2", "fs/netfs", "fs/overlayfs", "fs/squashfs",
	"lib", "net", "virt",
}

// moduleFiles are single modules beside those directories.
var moduleFiles = []string{
	"drivers/net/dummy", "drivers/net/failover", "drivers/net/ifb", "drivers/net/macvlan", "drivers/net/macvtap", "drivers/net/mdio",
	"drivers/net/net_failover", "drivers/net/netconsole", "drivers/net/nlmon", "drivers/net/tap", "drivers/net/tun",
	"drivers/net/veth", "drivers/net/virtio_net", "drivers/net/vrf", "drivers/net/geneve", "fs/mbcache",
}

// qemuTree returns the unpacked emulator.
func qemuTree(ctx context.Context) (cache.Tree, error) {
	return cache.Packages(ctx, "qemu", cache.PackageSet{
		Names: []string{"qemu-system-x86"},
		Skip:  append([]string{"usr/share/perl", "usr/lib/x86_64-linux-gnu/perl"}, dropped...),
	})
}

// guestTree returns the unpacked root file system.
func guestTree(ctx context.Context) (cache.Tree, error) {
	return cache.Packages(ctx, "rootfs", cache.PackageSet{Names: guestPackages, Skip: dropped})
}

// kernelTree returns the unpacked kernel: boot/vmlinuz-VERSION and the modules.
// The metapackage names the version; only the packages with the image and the
// modules are taken of its closure (Debian: one, Ubuntu: three).
func kernelTree(ctx context.Context) (cache.Tree, error) {
	meta := "linux-image-amd64"
	if cache.Distribution() == "ubuntu" {
		meta = "linux-image-generic"
	}
	return cache.Packages(ctx, "kernel", cache.PackageSet{
		Names: []string{meta},
		Only:  []string{"linux-image-", "linux-modules-"},
		Skip:  dropped,
	})
}

// kernelVersion returns the one version that is in a kernel tree.
func kernelVersion(kernel cache.Tree) (string, error) {
	found, err := filepath.Glob(kernel.Path("usr/lib/modules/*"))
	if err != nil {
		return "", err
	}
	if len(found) != 1 {
		return "", fmt.Errorf("find kernel version in %s: want one module directory, have %d", kernel, len(found))
	}
	return filepath.Base(found[0]), nil
}
