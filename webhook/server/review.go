package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// mostBody is the largest review that is read: a review of an update carries the
// object twice, and the API server takes objects of 3 MiB.
const mostBody = 8 << 20

// Review decides one review.
type Review func(context.Context, *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse

// handler answers POST with a review in it. name is the webhook's in metrics.
func handler(name string, review Review, m *Metrics) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		in, status, err := read(w, r)
		if err != nil {
			m.count(name, "unreadable", status, start)
			http.Error(w, err.Error(), status)
			return
		}
		ctx, cancel := withTimeout(r)
		defer cancel()
		response := review(ctx, in.Request)
		out := admissionv1.AdmissionReview{TypeMeta: in.TypeMeta, Response: response}
		body, err := json.Marshal(out)
		if err != nil {
			// A response is text and numbers; only its patch could be at fault.
			m.count(name, "unreadable", http.StatusBadRequest, start)
			http.Error(w, fmt.Sprintf("encode response: %v", err), http.StatusBadRequest)
			return
		}
		m.count(name, decision(response), http.StatusOK, start)
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(body) // a client that went away needs no answer
	})
}

func decision(r *admissionv1.AdmissionResponse) string {
	switch {
	case !r.Allowed:
		return "denied"
	case len(r.Patch) > 0:
		return "patched"
	}
	return "allowed"
}

// read returns the review in a request, or the status that says what is wrong
// with it.
func read(w http.ResponseWriter, r *http.Request) (in admissionv1.AdmissionReview, status int, err error) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return in, http.StatusMethodNotAllowed, fmt.Errorf("method %s: want POST", r.Method)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, mostBody))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return in, http.StatusRequestEntityTooLarge, err
	case err != nil:
		return in, http.StatusBadRequest, fmt.Errorf("read body: %w", err)
	case len(body) == 0:
		return in, http.StatusBadRequest, errors.New("empty body: want an AdmissionReview")
	}
	if kind := r.Header.Get("Content-Type"); kind != "application/json" {
		return in, http.StatusUnsupportedMediaType, fmt.Errorf("content type %q: want application/json", kind)
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return in, http.StatusBadRequest, fmt.Errorf("read AdmissionReview: %w", err)
	}
	if !known(in.TypeMeta) || in.Request == nil {
		return in, http.StatusBadRequest, fmt.Errorf("%s %s: want admission.k8s.io/v1 AdmissionReview with a request", in.APIVersion, in.Kind)
	}
	return in, http.StatusOK, nil
}

// known accepts v1beta1 as well, whose request and response have the same shape.
func known(t metav1.TypeMeta) bool {
	return t.Kind == "AdmissionReview" && (t.APIVersion == "admission.k8s.io/v1" || t.APIVersion == "admission.k8s.io/v1beta1")
}

// withTimeout ends a review before the API server's timeout does, which comes as
// a query parameter.
func withTimeout(r *http.Request) (context.Context, context.CancelFunc) {
	const margin = 500 * time.Millisecond
	d, err := time.ParseDuration(r.URL.Query().Get("timeout"))
	if err != nil || d <= 2*margin {
		return context.WithTimeout(r.Context(), 4*time.Second)
	}
	return context.WithTimeout(r.Context(), d-margin)
}
