// Command stub is a CNI plugin for tests: it writes down what it was given, a
// line of JSON for each call, and does what "stub" in its configuration says.
package main

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
)

func main() { os.Exit(stub(os.Getenv("TENDRIL_STUB_LOG"))) }

// invocation is one line of the log. The tests read the same fields.
type invocation struct {
	Plugin, Command string
	Env             map[string]string
	Stdin           map[string]any
}

// config is what a plugin of these tests reads.
type config struct {
	CNIVersion string          `json:"cniVersion"`
	PrevResult json.RawMessage `json:"prevResult"`
	Stub       struct {
		// Result is printed for ADD; without one the plugin passes prevResult on
		// with an interface of its own name added.
		Result json.RawMessage `json:"result"`
		// Silent prints nothing.
		Silent bool `json:"silent"`
		// Fail is the error object for a command.
		Fail map[string]json.RawMessage `json:"fail"`
	} `json:"stub"`
}

func stub(log string) int {
	stdin, err := io.ReadAll(os.Stdin)
	if err != nil {
		panic(err)
	}
	record(log, stdin)
	var c config
	if err := json.Unmarshal(stdin, &c); err != nil {
		panic(err)
	}
	command := os.Getenv("CNI_COMMAND")
	if e := c.Stub.Fail[command]; e != nil {
		os.Stdout.Write(e)
		return 1
	}
	switch {
	case command != "ADD" || c.Stub.Silent:
	case c.Stub.Result != nil:
		os.Stdout.Write(c.Stub.Result)
	default:
		os.Stdout.Write(passedOn(c))
	}
	return 0
}

func record(log string, stdin []byte) {
	i := invocation{Plugin: filepath.Base(os.Args[0]), Command: os.Getenv("CNI_COMMAND"), Env: map[string]string{}}
	for _, kv := range os.Environ() {
		if k, v, _ := strings.Cut(kv, "="); strings.HasPrefix(k, "CNI_") {
			i.Env[k] = v
		}
	}
	if err := json.Unmarshal(stdin, &i.Stdin); err != nil {
		panic(err)
	}
	line, err := json.Marshal(i)
	if err != nil {
		panic(err)
	}
	f, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	if _, err := f.Write(append(line, '\n')); err != nil {
		panic(err)
	}
}

func passedOn(c config) []byte {
	res := map[string]any{}
	if c.PrevResult != nil {
		if err := json.Unmarshal(c.PrevResult, &res); err != nil {
			panic(err)
		}
	}
	res["cniVersion"] = c.CNIVersion
	list, _ := res["interfaces"].([]any)
	res["interfaces"] = append(list, map[string]any{"name": filepath.Base(os.Args[0])})
	out, err := json.Marshal(res)
	if err != nil {
		panic(err)
	}
	return out
}
