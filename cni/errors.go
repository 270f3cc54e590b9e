package cni

import (
	"context"
	"errors"
	"fmt"

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

// Wire turns err into the error object of the CNI specification (section
// "Error"): code 7 for an input that was refused, 11 for what may work when
// tried again, 999 for the rest. A code that a foreign plugin gave is kept.
func Wire(err error) *types.Error {
	out := &types.Error{Code: types.ErrInternal, Msg: err.Error()}
	var foreign *types.Error
	var refused *refusal.Refusal
	var inUse *InUse
	var unclaimed *Unclaimed
	switch {
	case errors.As(err, &foreign):
		out.Code, out.Details = foreign.Code, foreign.Details
	case errors.As(err, &refused):
		out.Code = types.ErrInvalidNetworkConfig
	case errors.As(err, &inUse), errors.As(err, &unclaimed), errors.Is(err, ipam.ErrExhausted), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		out.Code = types.ErrTryAgainLater
	}
	return out
}
