package bridge

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netns"
	"github.com/tendril-cni/tendril/cni/netns/stacked"
)

var _ cni.Checker = (*Driver)(nil)

// Check compares both ends of the pair with the record. See cni.Checker.
func (d *Driver) Check(ctx context.Context, ns *os.File, r cni.Record) error {
	conf, err := parse(r.Attachment)
	if err != nil {
		return err
	}
	conn, err := netns.Dial(nil)
	if err != nil {
		return err
	}
	err = errors.Join(plugged(conn, conf.Name, portName(r.Attachment)), conn.Close())
	if conf.Down {
		return err
	}
	c := stacked.Child{Object: stacked.Object(r.Attachment), Kind: "veth", InPod: true, Routes: r.Attachment.Routes}
	return errors.Join(err, c.Check(ctx, ns, r))
}

// plugged says whether the port is up and in the bridge.
func plugged(conn *netns.Conn, bridge, port string) error {
	br, err := conn.LinkByName(bridge)
	if err != nil {
		return err
	}
	l, err := conn.LinkByName(port)
	switch {
	case err != nil:
		return err
	case l.Master != br.Index:
		return fmt.Errorf("port %s is not in bridge %s", port, bridge)
	case !l.Up() || !br.Up():
		return fmt.Errorf("port %s or bridge %s is down, want up", port, bridge)
	}
	return nil
}
