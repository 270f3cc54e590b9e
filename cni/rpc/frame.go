package rpc

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// The kinds of frame.
const (
	kindRequest byte = 1 + iota // shim to daemon
	kindExec                    // daemon to shim
	kindCancel                  // daemon to shim, no body
	kindResult                  // shim to daemon
	kindReply                   // daemon to shim
	kindFault                   // daemon to shim
)

const headerSize = 8

type header [headerSize]byte

// errUnexpected is a frame that has no place at this point of a conversation.
var errUnexpected = errors.New("frame is out of place")

// encode makes one frame of v; nil is a frame without a body.
func encode(kind byte, v any) ([]byte, error) {
	frame := make([]byte, headerSize, 1024)
	if v != nil {
		body, err := json.Marshal(v)
		if err != nil {
			return nil, fmt.Errorf("encode frame: %w", err)
		}
		frame = append(frame, body...)
	}
	n := len(frame) - headerSize
	if n > MaxFrame {
		return nil, tooLong(uint64(n))
	}
	frame[0], frame[1], frame[2], frame[3] = 'T', 'd', Version, kind
	binary.BigEndian.PutUint32(frame[4:], uint32(n))
	return frame, nil
}

// body checks h and reads the body that it announces.
func body(r io.Reader, h header) (kind byte, data []byte, err error) {
	if h[0] != 'T' || h[1] != 'd' {
		return 0, nil, fmt.Errorf("frame starts with %q, not with %q: not a Tendril shim or daemon", h[:4], "Td")
	}
	if h[2] != Version {
		return 0, nil, &VersionError{Ours: Version, Theirs: int(h[2])}
	}
	if h[3] < kindRequest || h[3] > kindFault {
		return 0, nil, fmt.Errorf("frame kind %d is not known; allowed: %d..%d", h[3], kindRequest, kindFault)
	}
	n := binary.BigEndian.Uint32(h[4:])
	if n > MaxFrame {
		return 0, nil, tooLong(uint64(n))
	}
	data = make([]byte, n)
	if _, err := io.ReadFull(r, data); err != nil {
		return 0, nil, fmt.Errorf("read frame body: %w", err)
	}
	return h[3], data, nil
}

func read(r io.Reader) (kind byte, data []byte, err error) {
	var h header
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return 0, nil, err
	}
	return body(r, h)
}

func write(w io.Writer, kind byte, v any) error {
	frame, err := encode(kind, v)
	if err != nil {
		return err
	}
	_, err = w.Write(frame)
	return err
}

func decode(data []byte, v any) error {
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("decode frame: %w", err)
	}
	return nil
}

func tooLong(n uint64) error {
	return fmt.Errorf("frame body of %d bytes is too long; allowed: 0..%d", n, MaxFrame)
}
