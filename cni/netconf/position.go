package netconf

import (
	"bytes"
	"fmt"
)

// Position is a place in a text that was parsed. It is the cause of a refusal
// whose value has a place worth naming.
type Position struct {
	// Byte counts from 0, Line and Column (in bytes) from 1.
	Byte, Line, Column int
}

// Error prints the position; Position is an error so that it can be a cause.
func (p Position) Error() string {
	return fmt.Sprintf("at line %d, column %d, byte %d", p.Line, p.Column, p.Byte)
}

// positionOf is the position of byte off of text.
func positionOf(text []byte, off int) Position {
	off = max(0, min(off, len(text)))
	before := text[:off]
	line := bytes.LastIndexByte(before, '\n') + 1
	return Position{Byte: off, Line: bytes.Count(before, []byte{'\n'}) + 1, Column: off - line + 1}
}
