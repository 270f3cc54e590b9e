package main

import (
	"context"
	"fmt"
	"os"
	"strconv"

	"github.com/tendril-cni/tendril/tests/lab/machine"
)

// shell gives a person a shell in a machine. With no lab running it boots as
// many machines as it takes to have that one.
func shell(ctx context.Context, args []string) (int, error) {
	index := 1
	if len(args) > 0 {
		var err error
		if index, err = strconv.Atoi(args[0]); err != nil || index < 1 || index > machine.MaxMachines {
			return 0, fmt.Errorf("shell: machine %q is not between 1 and %d", args[0], machine.MaxMachines)
		}
	}
	socket, leave, err := join(ctx, index)
	if err != nil {
		return 0, err
	}
	defer leave()
	return 0, client(socket, index).Shell(ctx, os.Stdin, os.Stdout)
}
