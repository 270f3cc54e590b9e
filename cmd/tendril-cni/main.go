package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	cniversion "github.com/containernetworking/cni/pkg/version"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netconf"
)

// version is set by the linker.
var version = "dev"

// plugin is what one name answers. An answer of add is printed in the version
// that the configuration asks for.
type plugin struct {
	add                    func(ctx context.Context, c call) (*current.Result, error)
	del, check, status, gc func(ctx context.Context, c call) error
	// since is the first version of the specification that the name speaks.
	since string
}

// call is one CNI call.
type call struct {
	*skel.CmdArgs
	// network is the configuration, args the pairs of CNI_ARGS.
	network netconf.Network
	args    map[string]string
	// given decodes more of the configuration, when it is first called: DEL and GC
	// do without, and so work with one that is wrong.
	given func() (given, error)
}

func main() {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	name := filepath.Base(os.Args[0])
	all := plugins(log)
	p, ok := all[name]
	if !ok {
		os.Exit(usage(name, all))
	}
	ctx := context.Background()
	verb := func(f func(context.Context, call) error) func(*skel.CmdArgs) error {
		return func(args *skel.CmdArgs) error {
			c, err := read(args)
			if err == nil {
				err = f(ctx, c)
			}
			return cni.Answer(err)
		}
	}
	skel.PluginMainFuncs(skel.CNIFuncs{
		Add: func(args *skel.CmdArgs) error {
			c, err := read(args)
			if err != nil {
				return cni.Answer(err)
			}
			res, err := p.add(ctx, c)
			if err != nil {
				return cni.Answer(err)
			}
			return types.PrintResult(res, c.network.CNIVersion)
		},
		Del: verb(p.del), Check: verb(p.check), Status: verb(p.status), GC: verb(p.gc),
	}, cniversion.VersionsStartingFrom(p.since), "CNI plugin "+name+" (tendril) "+version)
}

func usage(name string, all map[string]plugin) int {
	var names []string
	for n := range all {
		names = append(names, n)
	}
	slices.Sort(names)
	fmt.Fprintf(os.Stderr, "tendril-cni %s\ncall it by one of these names (links): %s\n", version, strings.Join(names, " "))
	if name == "tendril-cni" && len(os.Args) > 1 && (os.Args[1] == "--version" || os.Args[1] == "version") {
		return 0
	}
	return 1
}

// read parses what every verb gets.
func read(args *skel.CmdArgs) (call, error) {
	network, err := netconf.ParseNetwork("network configuration", args.StdinData, "")
	if err != nil {
		return call{}, err
	}
	c := call{CmdArgs: args, network: network, args: map[string]string{}}
	c.given = sync.OnceValues(func() (given, error) { return decodeGiven(args.StdinData) })
	for _, pair := range strings.Split(args.Args, ";") {
		if k, v, ok := strings.Cut(pair, "="); ok {
			c.args[strings.ToUpper(k)] = v
		}
	}
	return c, nil
}

// cannotAdd is what STATUS says before the reason.
const cannotAdd = "ADD cannot be served"
