package provision

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/tendril-cni/tendril/vf"
)

// What the keys of this package begin with in the Store; the PF's address follows.
const (
	madePrefix      = "made/"
	autoprobePrefix = "autoprobe/"
)

// making is the record that the VFs of a PF are Tendril's. Records are kept across
// upgrades: fields are added, and neither renamed nor given another meaning.
type making struct {
	NumVFs int    `json:"numVFs"`
	Boot   string `json:"boot"`
}

// before is what autoprobe was when a chain of steps was begun that changes it for
// a while.
type before struct {
	Autoprobe bool   `json:"autoprobe"`
	Boot      string `json:"boot"`
}

// record writes down what s is going to do, or undo. was is the PF as it was when
// the steps were planned.
func (p *Provisioner) record(s vf.Step, was vf.PF) error {
	switch s.Op {
	case vf.Create:
		return p.put(madePrefix+s.PF.String(), making{NumVFs: s.Value, Boot: p.opts.BootID})
	case vf.Autoprobe:
		begun, err := p.begun()
		if _, known := begun[s.PF]; err != nil || known {
			return err
		}
		return p.put(autoprobePrefix+s.PF.String(), before{Autoprobe: was.Autoprobe, Boot: p.opts.BootID})
	}
	return nil
}

func (p *Provisioner) put(key string, value any) error {
	data, err := json.Marshal(value)
	if err == nil {
		err = p.opts.Store.Put(key, data)
	}
	if err != nil {
		return fmt.Errorf("record %s: %w", key, err)
	}
	return nil
}

// begun returns what autoprobe was on PFs whose chains are not finished.
func (p *Provisioner) begun() (map[vf.Addr]bool, error) {
	out := map[vf.Addr]bool{}
	return out, each(p, autoprobePrefix, func(a vf.Addr, b before) {
		if b.Boot == p.opts.BootID {
			out[a] = b.Autoprobe
		}
	})
}

// finish drops what is only of interest while there is something to do: what
// autoprobe was stays noted for as long as it is not that again and a step is left,
// be it one that waits.
func (p *Provisioner) finish(o vf.Observed, steps []vf.Step) {
	for pf, was := range o.Autoprobe {
		now, _ := o.Snapshot.PF(pf)
		left := func(s vf.Step) bool { return s.PF == pf && (s.Blocked == nil || now.Autoprobe != was) }
		if p.workers[pf] || slices.ContainsFunc(steps, left) {
			continue
		}
		if err := p.opts.Store.Delete(autoprobePrefix + pf.String()); err != nil {
			p.opts.Log.Warn("record of autoprobe kept", "pf", pf, "error", err)
		}
	}
}

// each reads the records with that prefix.
func each[T any](p *Provisioner, prefix string, take func(vf.Addr, T)) error {
	all, err := p.opts.Store.All()
	if err != nil {
		return fmt.Errorf("read the records of VF provisioning: %w", err)
	}
	for key, data := range all {
		name, ok := strings.CutPrefix(key, prefix)
		if !ok {
			continue
		}
		var value T
		a, err := vf.ParseAddr(name)
		if err == nil {
			err = json.Unmarshal(data, &value)
		}
		if err != nil {
			return fmt.Errorf("read the record %q: %w", key, err)
		}
		take(a, value)
	}
	return nil
}

// made returns the PFs whose present VFs Tendril made in this boot: as many as
// were recorded. A number that was written by hand since makes them somebody
// else's.
func (p *Provisioner) made(snap *vf.Snapshot) (map[vf.Addr]bool, error) {
	out := map[vf.Addr]bool{}
	return out, each(p, madePrefix, func(a vf.Addr, m making) {
		if pf, found := snap.PF(a); found && m.Boot == p.opts.BootID && pf.NumVFs == m.NumVFs {
			out[a] = true
		}
	})
}
