package machine

import (
	"fmt"
	"io"
)

// cpioWriter writes the "newc" archive that kernels unpack as their first root.
type cpioWriter struct {
	w     io.Writer
	inode int
	err   error // the first error; later writes do nothing
}

const (
	cpioDir  = 0o040755
	cpioFile = 0o100755
)

func (c *cpioWriter) dir(name string)               { c.entry(name, cpioDir, nil) }
func (c *cpioWriter) file(name string, data []byte) { c.entry(name, cpioFile, data) }

// close ends the archive.
func (c *cpioWriter) close() error {
	c.entry("TRAILER!!!", 0, nil)
	return c.err
}

func (c *cpioWriter) entry(name string, mode int, data []byte) {
	if c.err != nil {
		return
	}
	c.inode++
	header := fmt.Sprintf("070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00",
		c.inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0, name)
	c.padded([]byte(header))
	c.padded(data)
}

// padded writes data up to the next multiple of four bytes.
func (c *cpioWriter) padded(data []byte) {
	if c.err != nil {
		return
	}
	if _, c.err = c.w.Write(data); c.err != nil {
		return
	}
	_, c.err = c.w.Write(make([]byte, (4-len(data)%4)%4))
}
