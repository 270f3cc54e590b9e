package kube

import (
	"math/rand/v2"

	"github.com/tendril-cni/tendril/ipam"
)

// roomy is how many windows of one size a range must have room for before that
// size is used: with fewer, the idle slots of some nodes would starve others.
const roomy = 500

// window is how many slots a claim takes from a range beyond what is asked for:
// 1 where they are scarce, up to 32 where they are not, and 64 on a busy node,
// which claims again or for many pods at once.
func window(set ipam.RangeSet, busy bool) int {
	most := set.Capacity() / roomy
	for _, w := range []uint64{64, 32, 16, 8} {
		if w == 64 && !busy {
			continue
		}
		if most >= w {
			return int(w)
		}
	}
	return 1
}

// near is the number of cells that are simply tried in order.
const near = 16

// scanMost bounds the cells that one claim looks at.
const scanMost = 4096

// verdict is what came of trying a cell.
type verdict int

const (
	enough    verdict = iota
	nothing           // no slot is free there
	contended         // others write to it right now
	broken            // the API server does not answer
)

// candidates calls try with cells of the set until it says enough, or broken: the
// one that gave last time, then lower ones before higher ones, one for every
// doubling of the distance, then all. Addresses in use thus stay low and close
// together. Where others write at the same time the next ones are picked at
// random from a quarter of the set: the nodes of a cluster that starts at once part
// ways after hardly a refused write each.
func candidates(set ipam.RangeSet, last *uint64, try func(ipam.Cell) verdict) {
	total := set.Cells()
	each := func(n uint64) verdict {
		v := try(set.Cell(n))
		if v == enough {
			*last = n
		}
		return v
	}
	for _, phase := range []func(uint64, uint64, func(uint64) verdict) verdict{again, gallop, all} {
		if v := phase(total, *last, each); v == enough || v == broken {
			return
		}
	}
}

// again tries where slots were found last.
func again(total, last uint64, try func(uint64) verdict) verdict {
	if last == 0 || last >= total {
		return nothing
	}
	return try(last)
}

// gallop tries one cell of each doubling, until others are in the way.
func gallop(total, _ uint64, try func(uint64) verdict) verdict {
	if total <= near {
		return nothing
	}
	for lo, hi := uint64(0), uint64(1); lo < total; lo, hi = hi, hi+min(hi, total-hi) {
		switch v := try(lo + rand.Uint64N(hi-lo)); v {
		case contended:
			return scatter(total, try)
		case nothing:
		default:
			return v
		}
	}
	return nothing
}

// scatter tries a few cells at random.
func scatter(total uint64, try func(uint64) verdict) verdict {
	for range 12 {
		if v := try(rand.Uint64N(max(total/4, near))); v == enough || v == broken {
			return v
		}
	}
	return nothing
}

// all tries every cell of a set that is not too large for it.
func all(total, _ uint64, try func(uint64) verdict) verdict {
	start := uint64(0)
	if total > near {
		start = rand.Uint64N(total)
	}
	for i := range min(total, scanMost) {
		if v := try((start + i) % total); v == enough || v == broken {
			return v
		}
	}
	return nothing
}
