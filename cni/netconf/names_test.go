package netconf

import (
	"regexp"
	"testing"
)

// TestNamesAreWhatTheirRulesSay: every short string of letters that matter, held
// against the rules as the specifications write them.
func TestNamesAreWhatTheirRulesSay(t *testing.T) {
	const label = `[a-z0-9]([-a-z0-9]*[a-z0-9])?`
	for _, rule := range []struct {
		name string
		form *regexp.Regexp
		ok   func(string) bool
	}{
		{"name", regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.\-]*$`), validName},
		{"label", regexp.MustCompile("^" + label + "$"), validLabel},
		{"object", regexp.MustCompile("^" + label + `(\.` + label + ")*$"), validObject},
	} {
		var try func(s string)
		try = func(s string) {
			if got, want := rule.ok(s), rule.form.MatchString(s); got != want {
				t.Errorf("%s %q: %v, want %v", rule.name, s, got, want)
			}
			if len(s) < 5 {
				for _, c := range "a0Z-._ \n" {
					try(s + string(c))
				}
			}
		}
		try("")
		for _, s := range []string{"\xff", "ä", "a/b", "a:b"} {
			try(s)
		}
	}
}
