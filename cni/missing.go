package cni

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
)

// NoPlugin is the error of a [Runner] that found no executable.
type NoPlugin struct {
	Plugin string
	// Why is the refusal in words: what is allowed, and where it was looked for.
	Why string
}

func (e *NoPlugin) Error() string { return fmt.Sprintf("run plugin %s: %s", e.Plugin, e.Why) }

// sparing is run for one ADD, or what is attached to a running pod, and its undo. A
// plugin that was not there for ADD did nothing, so that its DEL is done already:
// else one name that is wrong would keep what the plugins before it made until
// somebody installs a plugin of that name.
// DELs that come later are not spared: they do not know what ran.
func sparing(run Runner) Runner {
	if run == nil {
		return nil
	}
	var mu sync.Mutex // guards missing
	missing := map[string]bool{}
	return func(ctx context.Context, plugin string, stdin []byte, env []string) ([]byte, error) {
		out, err := run(ctx, plugin, stdin, env)
		var none *NoPlugin
		if !errors.As(err, &none) {
			return out, err
		}
		mu.Lock()
		defer mu.Unlock()
		switch {
		case slices.Contains(env, "CNI_COMMAND=ADD"):
			missing[plugin] = true
		case slices.Contains(env, "CNI_COMMAND=DEL") && missing[plugin]:
			return nil, nil
		}
		return out, err
	}
}
