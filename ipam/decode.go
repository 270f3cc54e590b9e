package ipam

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/tendril-cni/tendril/cni/refusal"
)

// decodeRefusal turns an error of Go's decoder into a refusal.
func decodeRefusal(raw []byte, err error) error {
	if _, key, ok := strings.Cut(err.Error(), "unknown field "); ok {
		return &refusal.Refusal{Field: "ipam", Value: key, Allowed: "type, network, ranges (subnet, start, end, gateway, exclude), routes, dns, probe, sticky"}
	}
	var kind *json.UnmarshalTypeError
	if !errors.As(err, &kind) {
		return (&refusal.Refusal{Field: "ipam", Value: fmt.Sprintf("%.60s", raw), Allowed: "a JSON object"}).Because(err)
	}
	field := "ipam"
	if kind.Field != "" {
		// Structs that are embedded are no part of the path that people write.
		field += "." + strings.NewReplacer("whereaboutsRange.", "", "rangeWire.", "").Replace(kind.Field)
	}
	return &refusal.Refusal{Field: field, Value: tokenBefore(raw, kind), Allowed: kindForm(kind.Type)}
}

// tokenBefore is the value that the decoder had just read; where there is none
// the decoder's own word for it.
func tokenBefore(raw []byte, kind *json.UnmarshalTypeError) string {
	dec := json.NewDecoder(bytes.NewReader(raw))
	for start := int64(0); ; start = dec.InputOffset() {
		if _, err := dec.Token(); err != nil {
			return kind.Value
		}
		if end := dec.InputOffset(); end >= kind.Offset {
			return strings.Trim(string(raw[start:end]), " \t\r\n:,")
		}
	}
}

func kindForm(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Int:
		return "a whole number"
	case reflect.Slice:
		return "a list"
	}
	return "a JSON object"
}
