package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/tendril-cni/tendril/tests/bench/contest"
)

// clients ask at once, as an API server does under a burst of pods.
const clients = 8

// side asks url: the reviews of a turn by all clients, and a tenth of them by one
// alone.
func (s *stand) side(who, url string, reviews int) contest.Side {
	a := asker{url: url, definitions: s.definitions, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients,
		// What the certificate says is not what is measured.
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}}
	return func(ctx context.Context, _ int) ([]contest.Took, error) {
		start := time.Now()
		times, err := a.ask(ctx, reviews, clients)
		if err != nil {
			return nil, err
		}
		share := time.Since(start) / time.Duration(reviews)
		alone, err := a.ask(ctx, reviews/10, 1)
		if err != nil {
			return nil, err
		}
		return []contest.Took{
			{Series: who + ", share", Time: share}, {Series: who + ", p99", Time: times[len(times)*99/100]}, {Series: who + ", alone", Time: alone[len(alone)/2]},
		}, nil
	}
}

// asker is an API server as the webhooks see it.
type asker struct {
	client      *http.Client
	url         string
	definitions int
}

// ask returns how long each of n reviews took, the shortest first.
func (a asker) ask(ctx context.Context, n, at int) ([]time.Duration, error) {
	times := make([]time.Duration, n)
	g, ctx := errgroup.WithContext(ctx)
	for c := range at {
		g.Go(func() error {
			for i := c; i < n; i += at {
				start := time.Now()
				if err := a.one(ctx, i); err != nil {
					return err
				}
				times[i] = time.Since(start)
			}
			return nil
		})
	}
	err := g.Wait()
	slices.Sort(times)
	return times, err
}

// one is a pod with two networks, which has to come back with their resource.
func (a asker) one(ctx context.Context, i int) error {
	body, err := review(i%a.definitions, i*37%a.definitions)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := a.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var out admissionv1.AdmissionReview
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil {
		return fmt.Errorf("read answer (%s): %w", resp.Status, err)
	}
	if out.Response == nil || !out.Response.Allowed || !bytes.Contains(out.Response.Patch, []byte("v.io~1a")) {
		return errors.New("answer without the resource of the networks")
	}
	return nil
}

func review(first, second int) ([]byte, error) {
	pod := corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "p", Labels: map[string]string{"app": "x"}, Annotations: map[string]string{"k8s.v1.cni.cncf.io/networks": name(first) + "," + name(second)}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "a", Image: "none"}, {Name: "b", Image: "none"}}},
	}
	raw, err := json.Marshal(pod)
	if err != nil {
		return nil, err
	}
	return json.Marshal(admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"},
		Request: &admissionv1.AdmissionRequest{UID: "u", Namespace: "default", Operation: admissionv1.Create, Kind: metav1.GroupVersionKind{Version: "v1", Kind: "Pod"},
			Object: runtime.RawExtension{Raw: raw}},
	})
}
