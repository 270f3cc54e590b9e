package kube

import (
	"slices"
	"strings"
	"sync"

	nad "github.com/k8snetworkplumbingwg/network-attachment-definition-client/pkg/apis/k8s.cni.cncf.io/v1"

	"github.com/tendril-cni/tendril/webhook/validate"
)

// summaries are the definitions in brief.
type summaries struct {
	mu     sync.Mutex // guards what follows
	of     map[string]*validate.Summary
	sorted []*validate.Summary // nil when a change is not in it yet
}

func (s *summaries) change(d *nad.NetworkAttachmentDefinition, gone bool) {
	var summary *validate.Summary
	if !gone {
		summary = validate.Summarize(d)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	key := d.Namespace + "/" + d.Name
	if s.sorted = nil; summary == nil {
		delete(s.of, key)
		return
	}
	s.of[key] = summary
}

// all returns the summaries in the order of their names. The slice is not
// changed later.
func (s *summaries) all() []*validate.Summary {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sorted == nil {
		s.sorted = make([]*validate.Summary, 0, len(s.of))
		for _, one := range s.of {
			s.sorted = append(s.sorted, one)
		}
		slices.SortFunc(s.sorted, func(a, b *validate.Summary) int { return strings.Compare(a.Ref(), b.Ref()) })
	}
	return s.sorted
}
