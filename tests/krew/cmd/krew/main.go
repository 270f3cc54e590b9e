// Command krew packs kubectl-tendril for every platform and writes the manifest,
// for `make krew`.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/tendril-cni/tendril/tests/krew"
)

var platforms = []string{"linux/amd64", "linux/arm64", "darwin/amd64", "darwin/arm64", "windows/amd64"}

func main() {
	out := flag.String("o", "bin/krew", "directory of the archives and the manifest")
	version := flag.String("version", "v0.0.0-dev", "version of the release")
	flag.Parse()
	if err := run(*out, *version); err != nil {
		fmt.Fprintln(os.Stderr, "krew:", err)
		os.Exit(1)
	}
}

func run(out, version string) error {
	var archives []krew.Archive
	for _, p := range platforms {
		goos, arch, _ := strings.Cut(p, "/")
		program := filepath.Join(out, goos+"_"+arch, "kubectl-tendril")
		if goos == "windows" {
			program += ".exe"
		}
		build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w -X main.version="+version, "-o", program, "./cmd/kubectl-tendril")
		build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+goos, "GOARCH="+arch)
		build.Stderr = os.Stderr
		if err := build.Run(); err != nil {
			return fmt.Errorf("build for %s: %w", p, err)
		}
		a, err := krew.Pack(out, goos, arch, program, "LICENSE", "deployment/krew/kubectl_complete-tendril")
		if err != nil {
			return err
		}
		fmt.Println(a.Name, a.SHA256)
		archives = append(archives, a)
	}
	text, err := os.ReadFile("deployment/krew/tendril.yaml")
	if err != nil {
		return err
	}
	manifest, err := krew.Manifest(string(text), version, archives)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(out, "tendril.yaml"), manifest, 0o644)
}
