package cache

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// packageOf names the package of each host tool the lab cannot do without.
var packageOf = map[string]string{
	"apt-get":  "apt",
	"dpkg-deb": "dpkg",
	"go":       "golang-go",
	"ip":       "iproute2",
	"gcc":      "gcc",
	"make":     "make",
}

// Require makes sure that host tools are there. What is missing is installed
// when this is root, and otherwise named all at once with the command to run.
func Require(tools ...string) error {
	var missing, packages []string
	for _, t := range tools {
		if _, err := exec.LookPath(t); err == nil {
			continue
		}
		missing = append(missing, t)
		packages = append(packages, orElse(packageOf[t], t))
	}
	if len(missing) == 0 {
		return nil
	}
	command := "apt-get install -y --no-install-recommends " + strings.Join(packages, " ")
	if os.Getuid() != 0 {
		return fmt.Errorf("find tools: %s missing; run: sudo %s", strings.Join(missing, ", "), command)
	}
	say("installing missing tools: %s", command)
	cmd := exec.Command("sh", "-c", "apt-get update -q && "+command)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("install %s: %w", strings.Join(packages, " "), err)
	}
	return nil
}
