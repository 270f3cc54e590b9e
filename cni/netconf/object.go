package netconf

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/tendril-cni/tendril/cni/refusal"
)

// object is one JSON object being read. Its first refusal sticks: readers ask
// for all their fields and look at err once.
type object struct {
	// path is the object's own place, with a trailing dot, or empty.
	path string
	// fields by lower-case key. A null counts as absent, as it does for Go.
	fields map[string]json.RawMessage
	err    error
}

// openObject reads data, which must be one JSON object, found at path.
func openObject(path string, data []byte) *object {
	o := &object{fields: map[string]json.RawMessage{}}
	if path != "" {
		o.path = path + "."
	}
	if first := bytes.TrimLeft(data, " \t\r\n"); len(first) > 0 && first[0] != '{' && json.Valid(data) {
		o.err = refusal.New("", path, shown(data), "a JSON object")
		return o
	}
	var given map[string]json.RawMessage
	if err := json.Unmarshal(data, &given); err != nil {
		o.err = syntaxRefusal(path, data, err)
	}
	for key, v := range given {
		o.fields[strings.ToLower(key)] = v
	}
	if len(o.fields) < len(given) && o.err == nil {
		// Rare, and several times the work.
		o.err = json.Unmarshal(data, &raws{o.fields})
	}
	return o
}

// raws collects the fields of an object under lower-case keys, in order, so
// that the last of several spellings counts.
type raws struct{ m map[string]json.RawMessage }

func (r *raws) UnmarshalJSON(data []byte) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	if _, err := dec.Token(); err != nil {
		return err
	}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return err
		}
		var v json.RawMessage
		if err := dec.Decode(&v); err != nil {
			return err
		}
		r.m[strings.ToLower(key.(string))] = v
	}
	return nil
}

// syntaxRefusal says where data stops being JSON.
func syntaxRefusal(path string, data []byte, err error) error {
	off := len(data)
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) && !errors.Is(err, io.ErrUnexpectedEOF) {
		off = int(syntax.Offset)
		if !strings.Contains(syntax.Error(), "end of JSON") {
			off--
		}
	}
	off = max(0, min(off, len(data)))
	value := rawText("end of text")
	if off < len(data) {
		value = shown(data[off:])
	}
	r := &refusal.Refusal{Field: path, Value: string(value), Allowed: "valid JSON (RFC 8259)"}
	return r.Because(fmt.Errorf("%w: %w", positionOf(data, off), err))
}

// shown is data as a refusal prints it: on one line, not without end, and quoted
// where a terminal would not show it.
func shown(data []byte) rawText {
	s := strings.Join(strings.Fields(string(data)), " ")
	if len(s) > 60 {
		s = strings.ToValidUTF8(s[:57], "") + "..."
	}
	if s == "" || strings.ContainsFunc(s, func(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }) {
		s = fmt.Sprintf("%.60q", data)
	}
	return rawText(s)
}

// rawText is text that is already in JSON's own notation: refusal.New prints it
// without further quotes.
type rawText string

func (o *object) refuse(key string, value any, allowed string) {
	if o.err == nil {
		o.err = refusal.New("", o.path+key, value, allowed)
	}
}

// raw returns the field as written, or nil when it is absent or null.
func (o *object) raw(key string) json.RawMessage {
	v := o.fields[strings.ToLower(key)]
	if string(v) == "null" {
		return nil
	}
	return v
}

// text returns a string field, "" when absent.
func (o *object) text(key string) string {
	v := o.raw(key)
	if v == nil {
		return ""
	}
	var s string
	if json.Unmarshal(v, &s) != nil {
		o.refuse(key, shown(v), "a string")
	}
	return s
}

// word returns a string field that must be one of allowed; absent and empty
// give fallback.
func (o *object) word(key, fallback string, allowed ...string) string {
	s := o.text(key)
	if s == "" {
		return fallback
	}
	for _, a := range allowed {
		if s == a {
			return s
		}
	}
	o.refuse(key, s, strings.Join(allowed, ", "))
	return fallback
}

// integer returns a whole number within lo..hi, or nil when absent.
func (o *object) integer(key string, lo, hi int64) *int64 {
	v := o.raw(key)
	if v == nil {
		return nil
	}
	n, err := strconv.ParseInt(string(v), 10, 64)
	if err != nil || n < lo || n > hi {
		o.refuse(key, shown(v), fmt.Sprintf("%d..%d", lo, hi))
		return nil
	}
	return &n
}

// number is integer with 0 for absent.
func (o *object) number(key string, lo, hi int64) int64 {
	if n := o.integer(key, lo, hi); n != nil {
		return *n
	}
	return 0
}

// flag returns a boolean field, false when absent.
func (o *object) flag(key string) bool {
	v := o.raw(key)
	switch string(v) {
	case "", "false":
		return false
	case "true":
		return true
	}
	o.refuse(key, shown(v), "true, false")
	return false
}

// looseFlag is flag that also takes the words, as libcni does for lists.
func (o *object) looseFlag(key string) bool {
	switch strings.ToLower(string(o.raw(key))) {
	case `"true"`:
		return true
	case `"false"`:
		return false
	}
	return o.flag(key)
}

// texts returns a list of strings, nil when absent.
func (o *object) texts(key string) []string {
	var out []string
	for i, v := range o.list(key) {
		var s *string
		if json.Unmarshal(v, &s) != nil || s == nil {
			o.refuse(fmt.Sprintf("%s[%d]", key, i), shown(v), "a string")
			return nil
		}
		out = append(out, *s)
	}
	return out
}

// list returns the elements of an array, nil when absent and empty but not nil
// for [].
func (o *object) list(key string) []json.RawMessage {
	v := o.raw(key)
	if v == nil {
		return nil
	}
	out := []json.RawMessage{}
	if json.Unmarshal(v, &out) != nil {
		o.refuse(key, shown(v), "a list")
		return nil
	}
	return out
}

// open reads a field that is an object itself, nil when absent.
func (o *object) open(key string) *object {
	v := o.raw(key)
	if v == nil {
		return nil
	}
	inner := openObject(o.path+key, v)
	if o.err == nil {
		o.err = inner.err
	}
	return inner
}

// close takes over the refusal of an inner object.
func (o *object) close(inner *object) {
	if o.err == nil && inner != nil {
		o.err = inner.err
	}
}
