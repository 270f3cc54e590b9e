package main

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"unicode"

	"github.com/tendril-cni/tendril/cni/rpc"
)

// The names go into file names on the way, so they are checked here as
// containernetworking/cni's skel package checks them, and before anything else.

func checkEnvironment(r rpc.Request) *failure {
	attach := r.Command == "ADD" || r.Command == "CHECK"
	whole := r.Command == "GC" || r.Command == "STATUS"
	if !attach && !whole && r.Command != "DEL" {
		return refuse(codeEnvironment, "CNI_COMMAND", r.Command, "ADD, CHECK, DEL, GC, STATUS, VERSION")
	}
	var missing []string
	for _, v := range []struct {
		name, value string
		needed      bool
	}{
		{"CNI_CONTAINERID", r.ContainerID, !whole},
		{"CNI_NETNS", r.NetnsPath, attach},
		{"CNI_IFNAME", r.IfName, !whole},
		{"CNI_PATH", r.Path, true},
	} {
		if v.needed && v.value == "" {
			missing = append(missing, v.name)
		}
	}
	switch {
	case len(missing) > 0:
		return &failure{Code: codeEnvironment, Msg: "required env variables [" + strings.Join(missing, ",") + "] missing"}
	case !whole && !validName(r.ContainerID):
		return refuse(codeEnvironment, "CNI_CONTAINERID", r.ContainerID, nameForm)
	case !whole && !validInterface(r.IfName):
		return refuse(codeEnvironment, "CNI_IFNAME", r.IfName, "1 to 15 bytes without '/', ':' and white space, and not . or ..")
	}
	return nil
}

const nameForm = "letters, digits, '_', '.', '-', the first one a letter or a digit"

func validName(s string) bool {
	for i := range len(s) {
		c := s[i]
		alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !alnum && (i == 0 || c != '_' && c != '.' && c != '-') {
			return false
		}
	}
	return s != ""
}

func validInterface(s string) bool {
	if s == "" || len(s) > 15 || s == "." || s == ".." {
		return false
	}
	return strings.IndexFunc(s, func(r rune) bool { return r == '/' || r == ':' || unicode.IsSpace(r) }) < 0
}

// openNetns opens the pod's network namespace. For DEL and CHECK it may be gone:
// the daemon then works from its journal, or says what is missing.
func openNetns(command, path string) (*os.File, *failure) {
	if path == "" {
		return nil, nil
	}
	// Not to hang on a path that is, by mistake, a FIFO.
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC|syscall.O_NONBLOCK, 0)
	if err != nil {
		if command != "ADD" {
			return nil, nil
		}
		return nil, &failure{Code: codeEnvironment, Msg: "CNI_NETNS: open " + path + ": " + err.Error()}
	}
	var pod, own syscall.Stat_t
	if syscall.Fstat(fd, &pod) == nil && syscall.Stat("/proc/thread-self/ns/net", &own) == nil &&
		pod.Dev == own.Dev && pod.Ino == own.Ino && !overridden() {
		_ = syscall.Close(fd)
		if command == "ADD" {
			return nil, refuse(codeNetns, "CNI_NETNS", path, "a network namespace other than the runtime's own, unless CNI_NETNS_OVERRIDE is 1")
		}
		// The path was reused, or never was a pod's: not to be touched.
		return nil, nil
	}
	return os.NewFile(uintptr(fd), path), nil
}

func overridden() bool {
	v := os.Getenv("CNI_NETNS_OVERRIDE")
	return v == "1" || strings.EqualFold(v, "true")
}

// refuse is the error for a value that is not allowed.
func refuse(code int, field, value, allowed string) *failure {
	return &failure{Code: code, Msg: field + ": value " + strconv.Quote(value) + " is not allowed; allowed: " + allowed}
}
