package tuning

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/cni/netns"
	"github.com/tendril-cni/tendril/cni/refusal"
)

// path is the file of a parameter: dots become slashes, and the first IFNAME the
// interface's name, which may have dots of its own. The parser has seen to it
// that the key is below net.
func path(key, ifName string) string {
	key = strings.ReplaceAll(key, ".", "/")
	return filepath.Join("/proc/sys", strings.Replace(key, "IFNAME", ifName, 1))
}

// sysctls are the parameters of conf with their files as keys.
func sysctls(conf netconf.Tuning, ifName string) []netconf.Sysctl {
	out := make([]netconf.Sysctl, len(conf.Sysctls))
	for i, s := range conf.Sysctls {
		out[i] = netconf.Sysctl{Key: path(s.Key, ifName), Value: s.Value}
	}
	return out
}

func get(file string) (string, error) {
	b, err := os.ReadFile(file)
	return strings.TrimSuffix(string(b), "\n"), err
}

// set writes the parameters in ns. What is no parameter, or not a value of one,
// is refused.
func set(ns *os.File, list []netconf.Sysctl) error {
	return netns.Do(ns, func() error {
		for _, s := range list {
			if err := os.WriteFile(s.Key, []byte(s.Value), 0o644); err != nil {
				return refusal.New("", "sysctl."+strings.TrimPrefix(s.Key, "/proc/sys/"), s.Value, "a kernel parameter of the pod's network namespace, and a value that it takes").Because(err)
			}
		}
		return nil
	})
}

// unset writes the parameters back; one that went with its interface is done.
func unset(ns *os.File, list []netconf.Sysctl) error {
	if len(list) == 0 {
		return nil
	}
	return netns.Do(ns, func() error {
		var errs []error
		for _, s := range list {
			if now, err := get(s.Key); err == nil && now == s.Value {
				continue
			}
			if err := os.WriteFile(s.Key, []byte(s.Value), 0o644); err != nil && !errors.Is(err, os.ErrNotExist) {
				errs = append(errs, fmt.Errorf("restore kernel parameter: %w", err))
			}
		}
		return errors.Join(errs...)
	})
}

// allowed refuses keys that no line of the allowlist matches, anywhere in the
// key as it was written.
func (m *Modifier) allowed(list []netconf.Sysctl) error {
	if len(list) == 0 {
		return nil
	}
	f, err := os.Open(m.allowlist)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read allowlist: %w", err)
	}
	defer f.Close()
	var lines []*regexp.Regexp
	for s := bufio.NewScanner(f); s.Scan(); {
		text := strings.TrimSpace(s.Text())
		if text == "" {
			continue
		}
		re, err := regexp.Compile(text)
		if err != nil {
			return refusal.New("allowlist "+m.allowlist, "line", text, "a regular expression (RE2)").Because(err)
		}
		lines = append(lines, re)
	}
	for _, s := range list {
		if !matches(lines, s.Key) {
			return refusal.New("", "sysctl", s.Key, "a key that matches a line of "+m.allowlist)
		}
	}
	return nil
}

func matches(lines []*regexp.Regexp, key string) bool {
	for _, re := range lines {
		if re.MatchString(key) {
			return true
		}
	}
	return false
}
