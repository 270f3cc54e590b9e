package cluster

import (
	"context"
	"os"
	"path/filepath"

	"github.com/tendril-cni/tendril/tests/lab/cache"
	"github.com/tendril-cni/tendril/tests/lab/machine"
	"github.com/tendril-cni/tendril/tests/lab/programs"
)

// diskDir is where a node finds the disk of its programs, with
//
//	bin/     kubelet, containerd and what belongs to it
//	cni/     the reference plugins
//	images/  archives of the images that every node has
//
// A disk that all nodes read costs no copying: a node reads those pages of a program that it runs.
const diskDir = "/opt/node"

const (
	diskFormat = "1" // changes when the same programs would make another disk
	diskSize   = "512M"
)

// Fetch downloads and builds everything that clusters need and returns at once if it is all there. It
// must be called outside the lab's namespaces, which no network reaches.
func Fetch(ctx context.Context) error {
	if err := machine.Fetch(ctx); err != nil {
		return err
	}
	_, err := nodeDisk(ctx)
	return err
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
	pause, err := programs.Pause(ctx)
	if err != nil {
		return "", err
	}
	tools, err := busybox(ctx)
	if err != nil {
		return "", err
	}
	// The directories' names are the keys of what is in them.
	key := cache.Key(diskFormat, kubernetes.Kubelet, containerd, plugins, pause, tools, PauseImage, ToolsImage)
	return machine.DiskImage(ctx, "node", key, diskSize, func(ctx context.Context, dir string) error {
		if err := linkPrograms(dir, containerd, plugins, kubernetes.Kubelet); err != nil {
			return err
		}
		return writeImages(ctx, filepath.Join(dir, "images"))
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

func writeImages(ctx context.Context, dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	if err := writePause(ctx, filepath.Join(dir, "pause.tar")); err != nil {
		return err
	}
	return writeTools(ctx, filepath.Join(dir, "tools.tar"))
}
