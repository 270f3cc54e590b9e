package cluster

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/tendril-cni/tendril/tests/lab/cache"
	"github.com/tendril-cni/tendril/tests/lab/oci"
	"github.com/tendril-cni/tendril/tests/lab/programs"
)

// Images that every node has.
const (
	// PauseImage holds a pod's namespaces.
	PauseImage = "tendril.dev/pause:dev"
	// ToolsImage is busybox under all of its names, with sh to start a pod's command.
	ToolsImage = "tendril.dev/busybox:dev"
)

func writePause(ctx context.Context, archive string) error {
	pause, err := programs.Pause(ctx)
	if err != nil {
		return err
	}
	return oci.WriteFile(archive, oci.Image{
		Name:       PauseImage,
		Entrypoint: []string{"/pause"},
		Files:      []oci.File{oci.Program("/pause", pause)},
	})
}

func writeTools(ctx context.Context, archive string) error {
	busybox, err := busybox(ctx)
	if err != nil {
		return err
	}
	names, err := exec.CommandContext(ctx, busybox, "--list").Output()
	if err != nil {
		return fmt.Errorf("ask busybox for its names: %w", err)
	}
	files := []oci.File{
		oci.Program("/bin/busybox", busybox),
		{Path: "/etc/passwd", Data: []byte("root:x:0:0:root:/:/bin/sh\n"), Mode: 0o644},
		{Path: "/etc/group", Data: []byte("root:x:0:\n"), Mode: 0o644},
	}
	for name := range strings.FieldsSeq(string(bytes.TrimSpace(names))) {
		if name != "busybox" {
			files = append(files, oci.Link("/bin/"+name, "busybox"))
		}
	}
	return oci.WriteFile(archive, oci.Image{Name: ToolsImage, Entrypoint: []string{"/bin/sh"}, Files: files})
}

// busybox is the path of the distribution's static busybox.
func busybox(ctx context.Context) (string, error) {
	tree, err := cache.Packages(ctx, "busybox", cache.PackageSet{
		Names: []string{"busybox-static"}, Only: []string{"busybox-static"}, Skip: []string{"usr/share"},
	})
	return filepath.Join(string(tree), "usr/bin/busybox"), err
}
