package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	cniversion "github.com/containernetworking/cni/pkg/version"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netconf"
)

// version is set by the linker.
var version = "dev"

// call is one CNI call.
type call struct {
	*skel.CmdArgs
	network netconf.Network
	// ipam is the ipam object as written, nil if there is none.
	ipam json.RawMessage
}

func main() {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	if len(os.Args) > 1 && os.Args[1] == "daemon" {
		os.Exit(daemon(os.Args[2:], log))
	}
	skel.PluginMainFuncs(skel.CNIFuncs{
		Add: func(args *skel.CmdArgs) error {
			var res *current.Result
			c, err := read(args)
			if err == nil {
				res, err = allocate(c)
			}
			if err != nil {
				return cni.Answer(err)
			}
			return types.PrintResult(res, c.network.CNIVersion)
		},
		Check:  verb(func(c call) error { _, err := allocate(c); return err }),
		Del:    verb(release),
		Status: verb(status),
		// The daemon looks after its leases itself.
		GC: verb(func(call) error { return nil }),
	}, cniversion.VersionsStartingFrom("0.1.0"), "CNI plugin dhcp (tendril) "+version)
}

func verb(f func(call) error) func(*skel.CmdArgs) error {
	return func(args *skel.CmdArgs) error {
		c, err := read(args)
		if err == nil {
			err = f(c)
		}
		return cni.Answer(err)
	}
}

// read parses what every verb gets.
func read(args *skel.CmdArgs) (call, error) {
	network, err := netconf.ParseNetwork("network configuration", args.StdinData, "")
	if err != nil {
		return call{}, err
	}
	raw, _, err := netconf.ParseIPAM(network.Plugins[0])
	return call{CmdArgs: args, network: network, ipam: raw}, err
}

// text returns a string of the ipam object, "" if it is absent.
func (c call) text(key string) (string, error) {
	var conf map[string]any
	if c.ipam == nil {
		return "", nil
	}
	if err := json.Unmarshal(c.ipam, &conf); err != nil {
		return "", fmt.Errorf("decode ipam: %w", err)
	}
	s, _ := conf[key].(string)
	return s, nil
}

func status(c call) error {
	client, err := dial(c)
	if err != nil {
		return cni.Unavailable("the DHCP daemon is not there", err)
	}
	return client.Close()
}
