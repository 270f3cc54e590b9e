package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/types/create"
)

// An ipam executable is run here and not by libcni, which links telemetry, HTTP
// and TLS into every plugin: starting those would cost more than making the link.

// find looks a plugin up in the directories of CNI_PATH.
func find(kind, path string) (string, error) {
	for _, dir := range filepath.SplitList(path) {
		file := filepath.Join(dir, kind)
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() {
			return file, nil
		}
	}
	return "", fmt.Errorf("find plugin %s in CNI_PATH %s: %w", kind, path, os.ErrNotExist)
}

// execute runs a verb of an ipam executable with the call's own values and
// returns what it printed. Its error object comes back as *types.Error.
func execute(ctx context.Context, kind, verb string, c call) ([]byte, error) {
	path := cmp.Or(c.Path, os.Getenv("CNI_PATH"))
	file, err := find(kind, path)
	if err != nil {
		return nil, err
	}
	var out, said bytes.Buffer
	cmd := exec.CommandContext(ctx, file)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(c.StdinData), &out, &said
	cmd.Env = append(os.Environ(), "CNI_COMMAND="+verb, "CNI_CONTAINERID="+c.ContainerID, "CNI_IFNAME="+c.IfName,
		"CNI_NETNS="+c.Netns, "CNI_ARGS="+c.Args, "CNI_PATH="+path)
	err = cmd.Run()
	if err == nil {
		return out.Bytes(), nil
	}
	var object types.Error
	if json.Unmarshal(out.Bytes(), &object) == nil && object.Msg != "" {
		return nil, &object
	}
	text := strings.TrimSpace(out.String() + " " + said.String())
	return nil, fmt.Errorf("ipam %s %s: %w: %s", kind, verb, errors.Join(err, ctx.Err()), text)
}

// decodeResult reads a result of any version; one that says none has that of the
// configuration.
func decodeResult(printed []byte, version string) (*current.Result, error) {
	var said struct {
		CNIVersion string `json:"cniVersion"`
	}
	if err := json.Unmarshal(printed, &said); err != nil {
		return nil, fmt.Errorf("decode result: %w", err)
	}
	res, err := create.Create(cmp.Or(said.CNIVersion, version), printed)
	if err != nil {
		return nil, fmt.Errorf("decode result: %w", err)
	}
	return current.NewResultFromResult(res)
}
