package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/Mellanox/sriovnet"
	"golang.org/x/sys/unix"

	"github.com/tendril-cni/tendril/tests/bench/contest"
	"github.com/tendril-cni/tendril/vf"
	"github.com/tendril-cni/tendril/vf/sysfs"
	"github.com/tendril-cni/tendril/vf/vftest"
)

const (
	cards   = 8
	perCard = 128
	total   = cards * perCard
)

// scanLimit is what a scan of total VFs may take.
const scanLimit = 100 * time.Millisecond

// scanPart reads everything about all VFs, beside three questions about each of
// them: its PF, its number, its network device.
var scanPart = part{
	Name: "scan",
	Lines: []contest.Comparison{
		{Name: "scan of 1,024 VFs, to 100 ms", Ours: "scan", Reference: "limit", Goal: 1},
		{Name: "scan of 1,024 VFs, to sriovnet's look-ups", Ours: "scan", Reference: "sriovnet", Goal: 1},
	},
	Play: func(ctx context.Context, _ struct{}, rounds int) (samples contest.Samples, err error) {
		err = temporary(func(root string) error {
			if err := vftest.Unpack(root, vftest.Archive(nics("")...)); err != nil {
				return err
			}
			if err := unix.Mount(root, "/sys", "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
				return fmt.Errorf("mount tree over /sys: %w", err)
			}
			samples, err = contest.Play(ctx, rules(rounds), scanned(sysfs.New(root)), asked)
			return errors.Join(err, unix.Unmount("/sys", unix.MNT_DETACH))
		})
		return samples, err
	},
}

// nics are the cards; their VFs have the driver, igbvf if it is empty.
func nics(driver string) []vftest.NIC {
	var out []vftest.NIC
	for i := range cards {
		out = append(out, vftest.NIC{
			Addr: address(i).String(), Netdev: fmt.Sprintf("p%d", i), VFs: perCard, VFDriver: driver, NUMANode: i / 4, Group: 200 * i,
		})
	}
	return out
}

// address is that of the PF of a card.
func address(card int) vf.Addr { return vf.MustAddr(fmt.Sprintf("0000:%02x:00.0", 0x10+4*card)) }

func scanned(fs *sysfs.FS) contest.Side {
	return func(context.Context, int) ([]contest.Took, error) {
		start := time.Now()
		snap, skipped, err := fs.Scan()
		took := time.Since(start)
		switch {
		case err != nil:
			return nil, err
		case len(skipped) > 0:
			return nil, skipped[0]
		case len(snap.VFs) != total || snap.VFs[total-1].Netdev == "" || snap.VFs[total-1].Index != perCard-1:
			return nil, fmt.Errorf("scan has %d VFs, the last one is %+v", len(snap.VFs), snap.VFs[len(snap.VFs)-1])
		}
		return []contest.Took{{Series: "scan", Time: took}, {Series: "limit", Time: scanLimit}}, nil
	}
}

func asked(context.Context, int) ([]contest.Took, error) {
	all := nics("")
	start := time.Now()
	for i, n := range all {
		for index := range perCard {
			addr := n.VFAddr(index)
			pf, err1 := sriovnet.GetPfPciFromVfPci(addr)
			number, err2 := sriovnet.GetVfIndexByPciAddress(addr)
			names, err3 := sriovnet.GetNetDevicesFromPci(addr)
			if err := errors.Join(err1, err2, err3); err != nil {
				return nil, err
			}
			if pf != address(i).String() || number != index || len(names) != 1 {
				return nil, fmt.Errorf("sriovnet finds %s to be VF %d of %s with devices %v", addr, number, pf, names)
			}
		}
	}
	return []contest.Took{{Series: "sriovnet", Time: time.Since(start)}}, nil
}
