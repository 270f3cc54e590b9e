package deviceplugin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/tendril-cni/tendril/cni/refusal"
)

// place is where in the configuration a value stands. The standard decoder
// drops unknown keys or names them without their path, so the file is walked
// value by value, and every refusal is made at a place.
type place struct {
	// object is the file, and the resource once it is known.
	object string
	// path is the field, such as resourceList[0].selectors.pfNames[1].
	path string
}

// fields maps the keys of an object to what reads them.
type fields map[string]func(place, json.RawMessage) error

func (p place) in(key string) place {
	if p.path != "" {
		key = p.path + "." + key
	}
	return place{object: p.object, path: key}
}

func (p place) item(i int) place {
	return place{object: p.object, path: fmt.Sprintf("%s[%d]", p.path, i)}
}

// refuse refuses value in field, a key below p or "" for p itself.
func (p place) refuse(field string, value any, allowed string) error {
	if field != "" {
		p = p.in(field)
	}
	return refusal.New(p.object, p.path, value, allowed)
}

// syntax refuses data that is not one JSON value, naming line and column.
func (p place) syntax(data []byte) error {
	var v json.RawMessage
	dec := json.NewDecoder(bytes.NewReader(data))
	err := dec.Decode(&v)
	offset := int(dec.InputOffset())
	if err == nil {
		rest := bytes.TrimSpace(data[offset:])
		if len(rest) == 0 {
			return nil
		}
		offset = len(data) - len(rest)
		err = errors.New("more text after the end of the object")
	}
	var bad *json.SyntaxError
	switch {
	case errors.As(err, &bad):
		offset = max(int(bad.Offset)-1, 0)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		offset = len(data)
		err = errors.New("the text ends early")
	}
	line, column := position(data, offset)
	seen := "the end of the file"
	if offset < len(data) {
		seen = string(data[offset:min(offset+20, len(data))])
	}
	return refusal.New(p.object, fmt.Sprintf("line %d column %d", line, column), seen, "JSON").Because(err)
}

// position counts lines and columns (bytes) from 1.
func position(data []byte, offset int) (line, column int) {
	before := data[:min(offset, len(data))]
	return bytes.Count(before, []byte("\n")) + 1, len(before) - bytes.LastIndexByte(before, '\n')
}

// keys reads the object raw with the readers in want, and those in besides,
// which are for keys not worth telling a person about. A key with the value null
// is as good as absent.
func (p place) keys(raw json.RawMessage, want, besides fields) error {
	seen := map[string]bool{}
	return p.members(raw, func(at place, key string, raw json.RawMessage) error {
		name, read := want.find(key)
		if read == nil {
			name, read = besides.find(key)
		}
		if read == nil {
			return p.refuse(key, clip(raw), "the keys "+want.names())
		}
		if seen[name] {
			return p.refuse(name, clip(raw), "every key once")
		}
		seen[name] = true
		if isNull(raw) {
			return nil
		}
		return read(at, raw)
	})
}

func (f fields) find(key string) (string, func(place, json.RawMessage) error) {
	for name, read := range f {
		if strings.EqualFold(name, key) {
			return name, read
		}
	}
	return "", nil
}

func (f fields) names() string {
	return strings.Join(slices.Sorted(maps.Keys(f)), ", ")
}

// members calls each for the members of the object raw, in file order. The
// text has passed syntax.
func (p place) members(raw json.RawMessage, each func(at place, key string, raw json.RawMessage) error) error {
	if kind(raw) != '{' {
		return p.refuse("", clip(raw), "an object")
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	if _, err := dec.Token(); err != nil {
		return fmt.Errorf("read %s: %w", p.path, err)
	}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return fmt.Errorf("read %s: %w", p.path, err)
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return fmt.Errorf("read %s: %w", p.path, err)
		}
		name := fmt.Sprint(key)
		if err := each(p.in(name), name, value); err != nil {
			return err
		}
	}
	return nil
}

// list calls each for the items of the list raw.
func (p place) list(raw json.RawMessage, each func(at place, raw json.RawMessage) error) error {
	if kind(raw) != '[' {
		return p.refuse("", clip(raw), "a list")
	}
	var items []json.RawMessage
	if err := json.Unmarshal(raw, &items); err != nil {
		return fmt.Errorf("read %s: %w", p.path, err)
	}
	for i, item := range items {
		if err := each(p.item(i), item); err != nil {
			return err
		}
	}
	return nil
}

// text reads a string into v.
func text(v *string) func(place, json.RawMessage) error {
	return func(at place, raw json.RawMessage) error {
		if kind(raw) != '"' || json.Unmarshal(raw, v) != nil {
			return at.refuse("", clip(raw), "a string")
		}
		return nil
	}
}

// boolean reads true or false into v.
func boolean(v *bool) func(place, json.RawMessage) error {
	return func(at place, raw json.RawMessage) error {
		if json.Unmarshal(raw, v) != nil {
			return at.refuse("", clip(raw), "true or false")
		}
		return nil
	}
}

// onlyNull accepts no value at all: keys has let null pass.
func onlyNull(at place, raw json.RawMessage) error {
	return at.refuse("", clip(raw), "null")
}

func isNull(raw json.RawMessage) bool { return string(bytes.TrimSpace(raw)) == "null" }

// kind is the first character of the value, which tells its JSON type.
func kind(raw json.RawMessage) byte {
	if raw = bytes.TrimSpace(raw); len(raw) > 0 {
		return raw[0]
	}
	return 0
}

// clip is a value as the file has it, printed without further quotes and cut
// where it gets long.
func clip(raw json.RawMessage) fmt.Stringer { return clipped(raw) }

type clipped json.RawMessage

func (c clipped) String() string {
	var b bytes.Buffer
	if json.Compact(&b, c) != nil {
		b.Write(c)
	}
	s := b.String()
	if len(s) > 80 {
		s = strings.ToValidUTF8(s[:80], "") + "..."
	}
	return s
}
