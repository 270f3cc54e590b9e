// Package webhook will own admission: review in, response out, pure. Nothing of
// it is there yet: bad input is refused when the pod is attached.
package webhook
