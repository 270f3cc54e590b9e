package main

import (
	"encoding/json"
	"slices"
	"strconv"
	"time"
)

// supported are the versions of the CNI specification that the daemon converts
// between.
var supported = []string{"0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"}

const newest = "1.1.0"

// since is the first version that has a command (CNI specification, history).
var since = map[string]string{"CHECK": "0.4.0", "GC": "1.1.0", "STATUS": "1.1.0"}

type versionInfo struct {
	CNIVersion        string   `json:"cniVersion"`
	SupportedVersions []string `json:"supportedVersions"`
}

// failure is the error object of the CNI specification (section 5, "Error").
type failure struct {
	CNIVersion string `json:"cniVersion"`
	Code       int    `json:"code"`
	Msg        string `json:"msg"`
	Details    string `json:"details,omitempty"`
}

// Codes of the CNI specification (section 5).
const (
	codeVersion      = 1
	codeEnvironment  = 4
	codeIO           = 5
	codeDecode       = 6
	codeConfig       = 7
	codeNetns        = 8 // of the reference library
	codeTryLater     = 11
	codeNotAvailable = 50
)

// config is what the shim reads of its network configuration. The daemon gets
// all of it.
type config struct {
	CNIVersion     string  `json:"cniVersion"`
	Name           string  `json:"name"`
	Socket         string  `json:"socket"`
	TimeoutSeconds float64 `json:"timeoutSeconds"`
	ConnectSeconds float64 `json:"connectSeconds"`
	Spool          string  `json:"spool"`
}

// mostSeconds is what the daemon accepts (rpc: an hour).
const mostSeconds = 3600

// parse reads data over the defaults and checks it.
func (c *config) parse(data []byte) *failure {
	*c = config{Socket: "/run/tendril/tendril.sock", TimeoutSeconds: 100, ConnectSeconds: 10, Spool: "/var/lib/tendril/spool"}
	err := json.Unmarshal(data, c)
	if c.CNIVersion == "" {
		c.CNIVersion = "0.1.0" // what a missing version means
	}
	switch {
	case err != nil:
		return &failure{Code: codeDecode, Msg: "decode the network configuration: " + err.Error()}
	case !slices.Contains(supported, c.CNIVersion):
		seen := c.CNIVersion
		c.CNIVersion = newest
		return &failure{Code: codeVersion, Msg: "incompatible CNI versions", Details: `config is "` + seen + `", plugin supports ` + quoted(supported)}
	case !validName(c.Name):
		return refuse(codeConfig, "name", c.Name, nameForm)
	case c.Socket == "" || c.Socket[0] != '/':
		return refuse(codeConfig, "socket", c.Socket, "an absolute path")
	case c.TimeoutSeconds <= 0 || c.TimeoutSeconds > mostSeconds:
		return refuse(codeConfig, "timeoutSeconds", text(c.TimeoutSeconds), "more than 0, at most "+strconv.Itoa(mostSeconds))
	case c.ConnectSeconds < 0 || c.ConnectSeconds > mostSeconds:
		return refuse(codeConfig, "connectSeconds", text(c.ConnectSeconds), "0 to "+strconv.Itoa(mostSeconds))
	}
	return nil
}

// allows checks that the configuration's version has the command.
func (c *config) allows(command string) *failure {
	if first := since[command]; first != "" && slices.Index(supported, c.CNIVersion) < slices.Index(supported, first) {
		return &failure{Code: codeVersion, Msg: "config version does not allow " + command,
			Details: `config is "` + c.CNIVersion + `", ` + command + ` is allowed from "` + first + `"`}
	}
	return nil
}

func quoted(list []string) string {
	b, _ := json.Marshal(list) // strings cannot fail
	return string(b)
}

func text(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }

func seconds(f float64) time.Duration { return time.Duration(f * float64(time.Second)) }
