package cni

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/tendril-cni/tendril/cni/refusal"
	"github.com/tendril-cni/tendril/ipam"
)

// InUse says that a device already belongs to another attachment.
type InUse struct {
	// Device is the PCI address.
	Device string
	// Holder names pod, interface and container.
	Holder string
}

// Error implements error.
func (e *InUse) Error() string {
	return fmt.Sprintf("device %s is in use by %s; it is free once that sandbox is deleted", e.Device, e.Holder)
}

// The specification's answers of STATUS (section "STATUS"): ADD cannot be served,
// and, beside that, existing pods may be impaired.
const (
	codeUnavailable = 50
	codeImpaired    = 51
)

// Wire turns err, which is not nil, into the error object of the CNI specification
// (section "Error"): code 7 for an input that was refused, 11 for what may work
// when tried again, 999 for the rest. Code and details that a foreign plugin gave
// are kept; its message stands behind the words that were put before it.
func Wire(err error) *types.Error {
	out := &types.Error{Code: types.ErrInternal, Msg: err.Error()}
	var foreign *types.Error
	var refused *refusal.Refusal
	var inUse *InUse
	var unclaimed *Unclaimed
	switch {
	case errors.As(err, &foreign):
		out.Code, out.Details = foreign.Code, foreign.Details
		out.Msg = strings.TrimSuffix(out.Msg, "; "+foreign.Details) // types.Error prints both
	case errors.As(err, &refused):
		out.Code = types.ErrInvalidNetworkConfig
	case errors.As(err, &inUse), errors.As(err, &unclaimed), errors.Is(err, ipam.ErrExhausted), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		out.Code = types.ErrTryAgainLater
	}
	return out
}

// Answer is what the verb of an executable returns for err: nil, or [Wire] of it.
func Answer(err error) error {
	if err == nil {
		return nil
	}
	return Wire(err)
}

// Unavailable is STATUS' code 50 around err, nil for nil. A plugin's own 51 is
// kept: it says that pods which run are impaired too.
func Unavailable(what string, err error) error {
	if err == nil {
		return nil
	}
	out := &types.Error{Code: codeUnavailable, Msg: what, Details: err.Error()}
	var foreign *types.Error
	if errors.As(err, &foreign) && foreign.Code == codeImpaired {
		out.Code = codeImpaired
	}
	return out
}
