package netns

import (
	"crypto/sha256"
	"encoding/hex"
)

// aliasMax is the longest alias the kernel keeps (IFALIASZ without the zero).
const aliasMax = 255

// Mark returns the text that says whose a link is: container, network and the
// interface's name at ADD. It is the link's alias, so `ip link` shows it, and it
// stays with the link when someone renames it. It is at most 255 bytes long;
// what does not fit is replaced by a hash.
func Mark(containerID, network, ifName string) string {
	mark := "tendril " + network + " " + ifName + " " + containerID
	if len(mark) <= aliasMax {
		return mark
	}
	sum := sha256.Sum256([]byte(mark))
	return "tendril " + hex.EncodeToString(sum[:])
}
