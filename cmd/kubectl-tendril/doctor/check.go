package doctor

import "fmt"

// Result is how a check came out.
type Result string

// The results.
const (
	OK      Result = "ok"
	Warn    Result = "warn"
	Fail    Result = "fail"
	Unknown Result = "unknown" // it could not be looked at
)

// Check is one thing that was looked at.
type Check struct {
	Result Result `json:"result"`
	// Node is empty for what is the cluster's.
	Node string `json:"node,omitempty"`
	Name string `json:"check"`
	Says string `json:"says"`
	// Do is what to do about it, if it is not well.
	Do string `json:"do,omitempty"`
}

// list collects the checks of one node, or of the cluster.
type list struct {
	node string
	all  []Check
}

func (l *list) ok(name, format string, args ...any) { l.add(OK, name, "", format, args...) }

func (l *list) warn(name, do, format string, args ...any) { l.add(Warn, name, do, format, args...) }

func (l *list) fail(name, do, format string, args ...any) { l.add(Fail, name, do, format, args...) }

func (l *list) add(r Result, name, do, format string, args ...any) {
	l.all = append(l.all, Check{Result: r, Node: l.node, Name: name, Says: fmt.Sprintf(format, args...), Do: do})
}
