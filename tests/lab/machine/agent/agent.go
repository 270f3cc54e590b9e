package agent

import (
	"encoding/binary"
	"fmt"
	"io"
)

// Port is the TCP port the agent listens on.
const Port = 1024

// TrailerExit is the HTTP trailer with the exit code of a process; TrailerError
// says why a process could not be run at all.
const (
	TrailerExit  = "X-Exit-Code"
	TrailerError = "X-Exec-Error"
)

// Exec asks for one process.
type Exec struct {
	Args []string `json:"args"`
	// Env is added to the machine's own small environment.
	Env []string `json:"env,omitempty"`
	// Dir is the working directory; "/" if empty.
	Dir string `json:"dir,omitempty"`
}

// Status is the agent's answer once the machine has been set up.
type Status struct {
	// BootID differs after every boot of the machine.
	BootID string `json:"bootID"`
	// Problems are the steps of the set-up that did not succeed.
	Problems []string `json:"problems,omitempty"`
}

// Stream tells the two outputs of a process apart.
type Stream byte

// The streams of a process.
const (
	Stdout Stream = 1
	Stderr Stream = 2
)

const headerSize = 5

// WriteFrame writes one piece of a stream.
func WriteFrame(w io.Writer, s Stream, data []byte) error {
	frame := make([]byte, headerSize, headerSize+len(data))
	frame[0] = byte(s)
	binary.BigEndian.PutUint32(frame[1:], uint32(len(data)))
	_, err := w.Write(append(frame, data...))
	return err
}

// CopyFrames reads frames until the end of r and writes them to the outputs.
func CopyFrames(r io.Reader, stdout, stderr io.Writer) error {
	var header [headerSize]byte
	for {
		if _, err := io.ReadFull(r, header[:]); err == io.EOF {
			return nil
		} else if err != nil {
			return fmt.Errorf("read frame: %w", err)
		}
		var to io.Writer
		switch Stream(header[0]) {
		case Stdout:
			to = stdout
		case Stderr:
			to = stderr
		default:
			return fmt.Errorf("read frame: unknown stream %d", header[0])
		}
		if _, err := io.CopyN(to, r, int64(binary.BigEndian.Uint32(header[1:]))); err != nil {
			return fmt.Errorf("read frame: %w", err)
		}
	}
}
