package kube

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const (
	auditPolicy = "audit.yaml"
	auditLog    = "audit.log"
	auditedYAML = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules:
  - {level: Metadata, userGroups: [%q]}
  - {level: None}
`
)

// Request is one that somebody of [Options.Audit] made, and its answer.
type Request struct {
	User string
	Verb string // get, list, watch, create, update, patch, delete, ...
	// Resource is as in RBAC's rules: pods, pods/status, vfpolicies.tendril.dev; empty for a path
	// that is of none.
	Resource        string
	Namespace, Name string
	// Path is the URL's, with its query.
	Path string
	// Code is HTTP's; Message and Reason are the API server's where it refused.
	Code            int
	Reason, Message string
}

// Denied reports whether the API server would not have it from this user: RBAC, the node's authorizer,
// or an admission policy. That a namespace takes nothing new while it goes is no matter of rights.
func (r Request) Denied() bool {
	if strings.Contains(r.Message, "because it is being terminated") {
		return false
	}
	return r.Code == 401 || r.Code == 403 || strings.Contains(r.Message, "ValidatingAdmissionPolicy")
}

// String is one line: who, what, and the answer.
func (r Request) String() string {
	what := r.Resource
	if what == "" {
		what = r.Path
	}
	return strings.Join(strings.Fields(fmt.Sprintf("%s: %s %s %s %s -> %d %s", r.User, r.Verb, what, r.Namespace, r.Name, r.Code, r.Message)), " ")
}

// writeAuditPolicy has the requests of a group written down.
func (a *API) writeAuditPolicy() error {
	if a.options.Audit == "" {
		return nil
	}
	return os.WriteFile(filepath.Join(a.dir, auditPolicy), fmt.Appendf(nil, auditedYAML, a.options.Audit), 0o644)
}

func (o Options) auditFlags() []string {
	if o.Audit == "" {
		return nil
	}
	return []string{"--audit-policy-file=" + auditPolicy, "--audit-log-path=" + auditLog}
}

// Audited returns the requests of [Options.Audit] that were answered so far, in that order. A watch is
// answered when it ends.
func (a *API) Audited() ([]Request, error) {
	f, err := os.Open(filepath.Join(a.dir, auditLog))
	if errors.Is(err, fs.ErrNotExist) && a.options.Audit != "" {
		return nil, nil // nobody asked for anything yet
	}
	if err != nil {
		return nil, fmt.Errorf("read audit log: %w", err)
	}
	defer f.Close()
	var out []Request
	for r := bufio.NewReader(f); ; {
		line, err := r.ReadBytes('\n')
		if err != nil { // the last line may be half written
			return out, nil
		}
		one, err := audited(line)
		if err != nil {
			return nil, fmt.Errorf("read audit log: %w", err)
		}
		out = append(out, one)
	}
}

// audited reads one line, an Event of audit.k8s.io/v1.
func audited(line []byte) (Request, error) {
	var e struct {
		RequestURI, Verb string
		User             struct{ Username string }
		ObjectRef        struct{ Resource, Subresource, APIGroup, Namespace, Name string }
		ResponseStatus   struct {
			Code            int
			Reason, Message string
		}
	}
	if err := json.Unmarshal(line, &e); err != nil {
		return Request{}, err
	}
	resource := e.ObjectRef.Resource
	if e.ObjectRef.APIGroup != "" {
		resource += "." + e.ObjectRef.APIGroup
	}
	if e.ObjectRef.Subresource != "" {
		resource += "/" + e.ObjectRef.Subresource
	}
	return Request{
		User: e.User.Username, Verb: e.Verb, Resource: resource, Namespace: e.ObjectRef.Namespace, Name: e.ObjectRef.Name, Path: e.RequestURI,
		Code: e.ResponseStatus.Code, Reason: e.ResponseStatus.Reason, Message: e.ResponseStatus.Message,
	}, nil
}
