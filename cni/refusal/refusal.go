package refusal

import (
	"errors"
	"fmt"
	"strings"
)

// Refusal is an input that was not accepted.
type Refusal struct {
	// Object is what carries the value, for example
	// `NetworkAttachmentDefinition "blue/storage"`.
	Object string
	// Field is the path of the field inside the object, for example
	// `spec.config.vlan`. It may be empty when the object as a whole is refused.
	Field string
	// Value is the value seen, printed as it was given.
	Value string
	// Allowed says what would have been accepted, for example `0..4094`.
	Allowed string
	// Cause is the underlying error, if there is one.
	Cause error
}

// New returns a Refusal of value in field of object. The value is printed with
// %v, strings in quotes.
func New(object, field string, value any, allowed string) *Refusal {
	text := fmt.Sprintf("%v", value)
	if s, ok := value.(string); ok {
		text = fmt.Sprintf("%q", s)
	}
	return &Refusal{Object: object, Field: field, Value: text, Allowed: allowed}
}

// Because returns a copy of r that carries cause.
func (r *Refusal) Because(cause error) *Refusal {
	c := *r
	c.Cause = cause
	return &c
}

// In returns a copy of r with object set where r has none: parsers name the
// field, their callers know the object.
func (r *Refusal) In(object string) *Refusal {
	c := *r
	if c.Object == "" {
		c.Object = object
	}
	return &c
}

// Error prints all parts in one line.
func (r *Refusal) Error() string {
	var b strings.Builder
	b.WriteString(r.Object)
	if r.Field != "" {
		if b.Len() > 0 {
			b.WriteString(": ")
		}
		fmt.Fprintf(&b, "field %s", r.Field)
	}
	fmt.Fprintf(&b, ": value %s is not allowed", r.Value)
	if r.Allowed != "" {
		fmt.Fprintf(&b, "; allowed: %s", r.Allowed)
	}
	if r.Cause != nil {
		fmt.Fprintf(&b, " (%v)", r.Cause)
	}
	return b.String()
}

// Unwrap returns the cause.
func (r *Refusal) Unwrap() error { return r.Cause }

// Name sets object on the Refusal inside err, if it has one without an object,
// and returns err unchanged otherwise.
func Name(err error, object string) error {
	var r *Refusal
	if errors.As(err, &r) && r.Object == "" {
		return r.In(object)
	}
	return err
}
