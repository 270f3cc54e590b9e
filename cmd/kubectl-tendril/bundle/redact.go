package bundle

import (
	"regexp"
)

// gone stands for what was taken away.
const gone = "REDACTED"

// secretWords are in the names of things that nobody else is to know.
const secretWords = `password|passwd|passphrase|secret|token|api-?_?key|private-?_?key|access-?_?key|client-?_?key|client-certificate|credential|authorization|auth|kubeconfig|community|psk`

// rules are tried one after the other on the whole text.
var rules = []struct {
	find *regexp.Regexp
	with string
}{
	// Keys, and certificates with them: nobody needs those either.
	{regexp.MustCompile(`(?s)-----BEGIN [A-Z0-9 ]+-----.*?-----END [A-Z0-9 ]+-----`), gone},
	{regexp.MustCompile(`(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*`), gone},
	// JSON web tokens (RFC 7519), which service accounts have.
	{regexp.MustCompile(`eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*\.?[A-Za-z0-9_-]*`), gone},
	{regexp.MustCompile(`(?i)\b(bearer|basic)[ +:]+[A-Za-z0-9._~+/=-]+`), `$1 ` + gone},
	// PEM or a kubeconfig in base64: what decodes to "-----BEGIN", "apiVersion:"
	// with "clusters" cannot be told, so every long run of it goes.
	{regexp.MustCompile(`[A-Za-z0-9+/]{120,}={0,2}`), gone},
	// user:password@ in URLs.
	{regexp.MustCompile(`(://)[^/\s:@"']+:[^/\s@"']+@`), `${1}` + gone + `@`},
	// "some-token": "...", also with its quotes escaped, as JSON inside JSON has them.
	{regexp.MustCompile(`(?i)(\\*["']?[\w.-]*(?:` + secretWords + `)[\w.-]*\\*["']?\s*[:=]\s*)(\\+"(?:[^"\\]|\\\\[^"])*\\+"|"(?:[^"\\]|\\.)*"|'[^']*'|[^\s,;}\]"']+)`), `${1}` + gone},
}

// Redact returns text without what looks like a secret: tokens, keys, passwords in
// URLs, and the values of names that sound like one. It takes away too much rather
// than too little.
func Redact(text []byte) []byte {
	for _, r := range rules {
		text = r.find.ReplaceAll(text, []byte(r.with))
	}
	return text
}
