package main

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/tendril-cni/tendril/cni/rpc"
	"github.com/tendril-cni/tendril/cni/spool"
)

// delPatience is how long a DEL waits for a daemon where it can be spooled: the
// time in which a daemon that was just killed is back. A longer wait would only
// hold up the runtime, which cleans up pod after pod.
const delPatience = 2 * time.Second

// spools says whether a DEL may be left for later: a daemon has made the
// directory, and reads it when it starts.
func (c *config) spools(command string) bool {
	if command != "DEL" {
		return false
	}
	info, err := os.Stat(c.Spool)
	return err == nil && info.IsDir()
}

// statusPatience is how long a STATUS waits for a daemon that restarts. The kubelet
// asks every five seconds, for all that it wants to know of the runtime at once,
// and "not available" is a good answer.
const statusPatience = 2 * time.Second

// patience is how long to go on connecting.
func (c *config) patience(command string) time.Duration {
	wait := seconds(c.ConnectSeconds)
	switch {
	case command == "STATUS":
		return min(wait, statusPatience)
	case c.spools(command):
		return min(wait, delPatience)
	}
	return wait
}

// spooled leaves a DEL that found no daemon for the next one, and reports whether
// that is done: on disk, and sure to be read. A daemon that started meanwhile has
// perhaps read the directory before, so it is looked for once more, and then
// answers itself. cause is why the call failed; a daemon that is there and does
// not answer is not spooled past: it may still be at work on this very call.
func spooled(ctx context.Context, r rpc.Request, netns *os.File, c *config, cause error) (rpc.Reply, error) {
	if !c.spools(r.Command) || !errors.Is(cause, rpc.ErrAbsent) && !errors.Is(cause, rpc.ErrLost) {
		return rpc.Reply{}, cause
	}
	if err := spool.Put(c.Spool, r); err != nil {
		return rpc.Reply{}, errors.Join(cause, err)
	}
	reply, err := rpc.Client{Socket: c.Socket}.Call(ctx, r, netns)
	if err != nil {
		return rpc.Reply{}, nil
	}
	if reply.ExitCode == 0 {
		// Only a courtesy: to serve it again would change nothing.
		_ = spool.Drop(c.Spool, r.ContainerID, r.IfName)
	}
	return reply, nil
}
