package cluster

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/tendril-cni/tendril/tests/lab/cache"
	"github.com/tendril-cni/tendril/tests/lab/machine"
	"github.com/tendril-cni/tendril/tests/lab/programs"
)

// diskDir is where a node finds the disk of its programs, with
//
//	bin/  kubelet, containerd and what belongs to it
//	cni/  the reference plugins
//
// A disk that all nodes read costs no copying: a node reads those pages of a program that it runs.
const diskDir = "/opt/node"

const (
	diskFormat = "2" // changes when the same programs would make another disk
	diskSize   = "512M"
)

// Fetch downloads and builds everything that clusters need and returns at once if it is all there. It
// must be called outside the lab's namespaces, which no network reaches.
func Fetch(ctx context.Context) error {
	if err := machine.Fetch(ctx); err != nil {
		return err
	}
	_, err1 := programs.Pause(ctx)
	_, err2 := busybox(ctx)
	_, err3 := nodeDisk(ctx)
	return errors.Join(err1, err2, err3)
}

// nodeDisk returns the path of the disk.
func nodeDisk(ctx context.Context) (string, error) {
	kubernetes, err := programs.Kubernetes(ctx)
	if err != nil {
		return "", err
	}
	containerd, err := programs.Containerd(ctx)
	if err != nil {
		return "", err
	}
	plugins, err := programs.Plugins(ctx)
	if err != nil {
		return "", err
	}
	// The directories' names are the keys of what is in them.
	key := cache.Key(diskFormat, kubernetes.Kubelet, containerd, plugins)
	return machine.DiskImage(ctx, "node", key, diskSize, func(_ context.Context, dir string) error {
		return linkPrograms(dir, containerd, plugins, kubernetes.Kubelet)
	})
}

// linkPrograms makes the directories of programs. Links do, since the disk is a copy anyway.
func linkPrograms(dir, containerd, plugins, kubelet string) error {
	for name, source := range map[string]string{"bin": containerd, "cni": plugins} {
		if err := linkFiles(filepath.Join(dir, name), source); err != nil {
			return err
		}
	}
	return os.Link(kubelet, filepath.Join(dir, "bin", "kubelet"))
}

func linkFiles(to, from string) error {
	if err := os.Mkdir(to, 0o755); err != nil {
		return err
	}
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.Link(filepath.Join(from, e.Name()), filepath.Join(to, e.Name())); err != nil {
			return err
		}
	}
	return nil
}
