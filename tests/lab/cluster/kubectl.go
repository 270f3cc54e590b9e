package cluster

import "context"

// Kubectl runs kubectl as the administrator and returns what it printed. What it complained of is in
// the error.
func (c *Cluster) Kubectl(ctx context.Context, args ...string) (string, error) {
	return c.api.Kubectl(ctx, args...)
}

// Apply applies the objects of a YAML text.
func (c *Cluster) Apply(ctx context.Context, yaml string) error { return c.api.Apply(ctx, yaml) }

// Environ is this process's environment with kubectl in PATH, set up as the administrator's: what a
// person's shell in the lab starts with.
func (c *Cluster) Environ() []string { return c.api.Environ() }
