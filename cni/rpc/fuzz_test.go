package rpc

import (
	"bytes"
	"testing"
)

// FuzzFrame reads any bytes as a frame: it must end in an error or in a body of
// the length announced, and what it took for a frame must be written the same.
func FuzzFrame(f *testing.F) {
	for _, seed := range []string{"", "Td", "Td\x01\x05\x00\x00\x00\x02{}", "Td\x01\x01\xff\xff\xff\xff", "POST /cni", "Td\x02\x05\x00\x00\x00\x00"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		kind, got, err := read(bytes.NewReader(data))
		if err != nil {
			return
		}
		var r Reply
		if kind == kindReply && decode(got, &r) == nil {
			frame, err := encode(kind, r)
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := read(bytes.NewReader(frame)); err != nil {
				t.Fatalf("frame %q does not read back: %v", frame, err)
			}
		}
		if len(data) < headerSize+len(got) {
			t.Fatalf("%d bytes of body out of %d bytes", len(got), len(data))
		}
	})
}
