package agent

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

func TestFramesKeepTheStreamsApart(t *testing.T) {
	var wire, stdout, stderr bytes.Buffer
	for _, f := range []struct {
		to   Stream
		text string
	}{{Stdout, "one "}, {Stderr, "oops"}, {Stdout, ""}, {Stdout, "two"}} {
		if err := WriteFrame(&wire, f.to, []byte(f.text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := CopyFrames(&wire, &stdout, &stderr); err != nil {
		t.Fatal(err)
	}
	if stdout.String() != "one two" || stderr.String() != "oops" {
		t.Errorf("streams are %q and %q", stdout.String(), stderr.String())
	}
}

func TestCutFrameIsAnError(t *testing.T) {
	var wire bytes.Buffer
	if err := WriteFrame(&wire, Stdout, []byte("text")); err != nil {
		t.Fatal(err)
	}
	for cut := 1; cut < wire.Len(); cut++ {
		err := CopyFrames(bytes.NewReader(wire.Bytes()[:cut]), io.Discard, io.Discard)
		if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut after %d bytes: %v", cut, err)
		}
	}
}
