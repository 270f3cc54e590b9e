// Package refusal is the one shape in which Tendril says no to a value.
//
// It owns the wording only. Invariant 9 of the design (every refusal names the
// object, the field, the value seen and the values allowed) holds for every
// error made here, because the four parts are arguments and not prose.
//
// It is a leaf: it imports the standard library alone, and every domain may
// import it. Its values are immutable and safe for concurrent use.
package refusal
