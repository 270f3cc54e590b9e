package cni_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/google/go-cmp/cmp"

	"github.com/tendril-cni/tendril/cni"
)

func TestAPluginsErrorKeepsItsCodeAndSaysItsDetailsOnce(t *testing.T) {
	foreign := &types.Error{Code: 123, Msg: "no room", Details: "all are taken"}
	for name, c := range map[string]struct {
		err  error
		want types.Error
	}{
		"as it came":       {foreign, *foreign},
		"with words on it": {fmt.Errorf("attach network a/b: %w", foreign), types.Error{Code: 123, Msg: "attach network a/b: no room", Details: "all are taken"}},
		"without details":  {fmt.Errorf("run: %w", &types.Error{Code: 5, Msg: "read"}), types.Error{Code: 5, Msg: "run: read"}},
		"of ours":          {errors.New("open socket"), types.Error{Code: types.ErrInternal, Msg: "open socket"}},
	} {
		t.Run(name, func(t *testing.T) {
			if d := cmp.Diff(c.want, *cni.Wire(c.err)); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestNoErrorIsNoAnswer(t *testing.T) {
	if err := cni.Answer(nil); err != nil {
		t.Errorf("an error object for no error: %v", err)
	}
	if err := cni.Unavailable("never", nil); err != nil {
		t.Errorf("unavailable without a reason: %v", err)
	}
}
