package deviceplugin

import (
	"errors"
	"fmt"
	"slices"

	"github.com/tendril-cni/tendril/cni/refusal"
)

// Merge adds resources that come from elsewhere, such as policies, to those of
// the configuration file. They claim after the file's, in their order. One with a
// name that is there already adds its selectors to that resource, so that several
// policies can feed one pool, if it agrees in everything that a pool has once.
//
// What cannot be added is left out and returned as refusals, joined; the rest
// holds. cfg is not changed.
func Merge(cfg Config, more []Resource) (Config, error) {
	merged := Config{Resources: slices.Clone(cfg.Resources)}
	var refused []error
	for _, res := range more {
		if err := merged.add(res); err != nil {
			refused = append(refused, err)
		}
	}
	return merged, errors.Join(refused...)
}

func (c *Config) add(res Resource) error {
	at := place{object: fmt.Sprintf("resource %q", res.String())}
	if err := checkName(at, res); err != nil {
		return err
	}
	if len(res.Selectors) == 0 {
		return at.refuse("selectors", "nothing", "at least one selector")
	}
	i := slices.IndexFunc(c.Resources, func(have Resource) bool { return have.String() == res.String() })
	if i < 0 {
		c.Resources = append(c.Resources, res)
		return nil
	}
	have := &c.Resources[i]
	if err := have.agrees(at.object, res); err != nil {
		return err
	}
	have.Selectors = append(slices.Clone(have.Selectors), res.Selectors...)
	return nil
}

// agrees refuses what the pool of r cannot have beside what it has.
func (r *Resource) agrees(object string, other Resource) error {
	const why = ", as where the resource is defined first"
	switch {
	case other.Type != r.Type:
		return refusal.New(object, "deviceType", other.Type.String(), r.Type.String()+why)
	case other.ExcludeTopology != r.ExcludeTopology:
		return refusal.New(object, "excludeTopology", other.ExcludeTopology, fmt.Sprint(r.ExcludeTopology)+why)
	case other.Policy != r.Policy:
		return refusal.New(object, "allocationPolicy", other.Policy.String(), r.Policy.String()+why)
	case len(other.AdditionalInfo) > 0:
		return refusal.New(object, "additionalInfo", other.AdditionalInfo, "leaving it out, except where the resource is defined first")
	}
	return nil
}
