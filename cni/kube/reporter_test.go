package kube_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/kube"
)

func entry(name string) []cni.NetworkStatus {
	return []cni.NetworkStatus{{Name: name, Interface: "eth0", Default: true}}
}

// names are the networks of a network-status annotation.
func names(t *testing.T, annotation string) string {
	t.Helper()
	var list []struct{ Name string }
	if annotation == "" {
		return ""
	}
	if err := json.Unmarshal([]byte(annotation), &list); err != nil {
		t.Fatalf("%q: %v", annotation, err)
	}
	var out []string
	for _, e := range list {
		out = append(out, e.Name)
	}
	return strings.Join(out, ",")
}

func TestStatusIsWritten(t *testing.T) {
	w := newWorld(t)
	requests := &counter{}
	r, _ := w.reporter(w.cache(kube.Options{}), requests.trip)
	pod := w.create("web", node, map[string]string{"mine": "stays"})
	r.Publish(ref(pod), []cni.NetworkStatus{
		{Name: "cbr0", Interface: "eth0", IPs: []string{"10.1.0.5"}, MAC: "02:00:00:00:00:01", MTU: 1450, Default: true, Gateway: []string{"10.1.0.1"}},
		{Name: "blue/vf", Interface: "net1", DeviceInfo: map[string]any{"type": "pci"}},
	})
	w.eventually("the status is there", func() bool { return w.status("web") != "" })
	want := `[{
    "name": "cbr0",
    "interface": "eth0",
    "ips": [
        "10.1.0.5"
    ],
    "mac": "02:00:00:00:00:01",
    "mtu": 1450,
    "default": true,
    "dns": {},
    "gateway": [
        "10.1.0.1"
    ]
},{
    "name": "blue/vf",
    "interface": "net1",
    "dns": {},
    "device-info": {
        "type": "pci"
    }
}]`
	if diff := cmp.Diff(want, w.status("web")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	now, err := w.client.CoreV1().Pods(w.namespace).Get(t.Context(), "web", metav1.GetOptions{})
	if err != nil || now.Annotations["mine"] != "stays" || now.Labels["app"] != "web" {
		t.Errorf("pod %+v, error %v", now.ObjectMeta, err)
	}
	if got := requests.list(); !slices.Equal(got, []string{"PATCH status"}) {
		t.Errorf("requests %v, want one PATCH", got)
	}
}

func TestStatusOfAPredecessorIsNotWritten(t *testing.T) {
	w := newWorld(t)
	r, stop := w.reporter(w.cache(kube.Options{}), nil)
	first := w.create("db-0", node, nil)
	w.remove("db-0")
	r.Publish(ref(first), entry("of-nobody"))
	second := w.create("db-0", node, nil)
	r.Publish(ref(first), entry("of-the-first"))
	r.Publish(ref(second), entry("of-the-second"))
	w.eventually("the status is there", func() bool { return w.status("db-0") != "" })
	stop() // what had to be tried again would still be in the queue
	if got := names(t, w.status("db-0")); got != "of-the-second" {
		t.Errorf("status %q", got)
	}
}

func TestStatusOfAStaticPod(t *testing.T) {
	w := newWorld(t)
	c := w.cache(kube.Options{})
	r, _ := w.reporter(c, nil)
	w.create("static", node, map[string]string{"kubernetes.io/config.source": "file", "kubernetes.io/config.hash": "h1"})
	pod, err := c.Pod(w.within(patience), w.namespace, "static", "h1")
	if err != nil {
		t.Fatal(err)
	}
	r.Publish(pod.PodRef, entry("cbr0"))
	w.eventually("the status is there", func() bool { return names(t, w.status("static")) == "cbr0" })
}

func TestStatusOutlivesTheAPIServersAbsence(t *testing.T) {
	w := newWorld(t)
	r, _ := w.reporter(w.cache(kube.Options{}), nil)
	pod := w.create("web", node, nil)
	w.api.Stop()
	for i := range 100 { // returns at once, whatever becomes of it
		r.Publish(ref(pod), entry(fmt.Sprint(i)))
	}
	if err := w.api.Start(w.within(patience)); err != nil {
		t.Fatal(err)
	}
	w.eventually("the last status is there", func() bool { return names(t, w.status("web")) == "99" })
}

func TestStatusIsTriedAgainUntilItIsWritten(t *testing.T) {
	for name, fault := range map[string]func(*http.Request, http.RoundTripper) (*http.Response, error){
		"too many requests": answer(http.StatusTooManyRequests),
		"internal error":    answer(http.StatusInternalServerError),
		"conflict":          answer(http.StatusConflict),
		"reply lost": func(req *http.Request, next http.RoundTripper) (*http.Response, error) {
			res, err := next.RoundTrip(req) // committed
			if err == nil {
				res.Body.Close()
			}
			return nil, errors.New("connection reset")
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			faults := &faulty{fault: fault, left: 3}
			r, _ := w.reporter(w.cache(kube.Options{}), faults.trip)
			pod := w.create("web", node, nil)
			r.Publish(ref(pod), entry("cbr0"))
			w.eventually("the status is there and the faults are over", func() bool {
				return faults.over() && names(t, w.status("web")) == "cbr0"
			})
		})
	}
}

func TestWhatIsLeftIsWrittenAtTheEnd(t *testing.T) {
	w := newWorld(t)
	c := w.cache(kube.Options{})
	pods := make([]*corev1.Pod, 20)
	for i := range pods {
		pods[i] = w.create(fmt.Sprintf("web-%d", i), node, nil)
	}
	r, stop := w.reporter(c, nil)
	for _, pod := range pods {
		r.Publish(ref(pod), entry("cbr0"))
		r.Added(ref(pod), []cni.Made{{Network: "cbr0", IfName: "eth0"}})
	}
	stop()
	for _, pod := range pods {
		if got := names(t, w.status(pod.Name)); got != "cbr0" {
			t.Errorf("%s: status %q", pod.Name, got)
		}
		if len(w.events(pod)) != 1 {
			t.Errorf("%s: events %v", pod.Name, w.events(pod))
		}
	}
}

func TestEvents(t *testing.T) {
	w := newWorld(t)
	c := w.cache(kube.Options{DefinitionWait: 1})
	r, _ := w.reporter(c, nil)
	pod := w.create("web", node, nil)
	r.Added(ref(pod), []cni.Made{{Network: "cbr0", IfName: "eth0"},
		{Network: "blue/vlan", IfName: "net1", Addresses: []cni.Address{{Prefix: netip.MustParsePrefix("10.0.0.5/24")}, {Prefix: netip.MustParsePrefix("fd00::5/64")}}}})
	_, unknown := c.Definition(w.within(patience), w.namespace, "nowhere")
	r.Refused(ref(pod), fmt.Errorf("pod web: %w", unknown))
	for range 3 {
		r.Refused(ref(pod), errors.New("vlan 5000 is not allowed"))
	}
	r.Refused(cni.PodRef{}, errors.New("of no pod"))
	long := w.create("long", node, nil)
	r.Refused(ref(long), errors.New(strings.Repeat("é", 5000)))
	want := []string{
		"Normal AddedInterface x1: Add eth0 [] from cbr0; Add net1 [10.0.0.5/24 fd00::5/64] from blue/vlan",
		"Warning FailedAddingInterface x3: vlan 5000 is not allowed",
		"Warning NoNetworkFound x1: pod web: field k8s.v1.cni.cncf.io/networks: value \"" + w.namespace + "/nowhere\" is not allowed; " +
			"allowed: a NetworkAttachmentDefinition that exists; namespace " + w.namespace + " has none (no such NetworkAttachmentDefinition)",
	}
	w.eventually("all events are there", func() bool { return slices.Equal(w.events(pod), want) && len(w.events(long)) == 1 })
}

// A pod may have more interfaces than one event has room for: none is left out.
func TestManyInterfacesAreAllTold(t *testing.T) {
	w := newWorld(t)
	r, _ := w.reporter(w.cache(kube.Options{}), nil)
	pod := w.create("web", node, nil)
	var made []cni.Made
	for i := range 30 {
		made = append(made, cni.Made{Network: strings.Repeat("n", 60), IfName: fmt.Sprintf("net%d", i), Addresses: []cni.Address{{Prefix: netip.MustParsePrefix("10.0.0.5/24")}}})
	}
	r.Added(ref(pod), made)
	w.eventually("every interface is told", func() bool {
		text := strings.Join(w.events(pod), "\n")
		for _, m := range made {
			if strings.Count(text, "Add "+m.IfName+" [10.0.0.5/24] from "+m.Network) != 1 {
				return false
			}
		}
		return strings.Count(text, "\n") == 2
	})
}

// events tells the events of a pod, sorted.
// TestTriesAreOneEventThatNamesTheLastCall: each try of the runtime has an id of
// its own, which must not make a flood of them.
func TestTriesAreOneEventThatNamesTheLastCall(t *testing.T) {
	w := newWorld(t)
	pod := w.create("web", node, nil)
	r, _ := w.reporter(w.cache(kube.Options{}), nil)
	for i := range 3 {
		r.Refused(ref(pod), &cni.CallError{ID: fmt.Sprint("c1-", i), Err: errors.New("attach network blue/a as net1: no")})
	}
	want := []string{"Warning FailedAddingInterface x3: attach network blue/a as net1: no (call c1-2)"}
	w.eventually("the event", func() bool { return slices.Equal(want, w.events(pod)) })
	list, err := w.client.CoreV1().Events(w.namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil || len(list.Items) != 1 || list.Items[0].Annotations["tendril.dev/call"] != "c1-2" {
		t.Errorf("events %+v, %v", list.Items, err)
	}
}

func TestLongMessageKeepsItsCall(t *testing.T) {
	w := newWorld(t)
	pod := w.create("web", node, nil)
	r, _ := w.reporter(w.cache(kube.Options{}), nil)
	r.Refused(ref(pod), &cni.CallError{ID: "c1-x", Err: errors.New(strings.Repeat("no ", 1000))})
	w.eventually("the event", func() bool {
		events := w.events(pod)
		return len(events) == 1 && strings.HasSuffix(events[0], "... (call c1-x)")
	})
	if b := r.Backlog(); b != (kube.Backlog{}) {
		t.Errorf("backlog %+v", b)
	}
}

func (w *world) events(pod *corev1.Pod) []string {
	w.t.Helper()
	list, err := w.client.CoreV1().Events(w.namespace).List(w.t.Context(), metav1.ListOptions{FieldSelector: "involvedObject.uid=" + string(pod.UID)})
	if err != nil {
		w.t.Fatal(err)
	}
	var out []string
	for _, e := range list.Items {
		if e.Source.Component != "tendril" || e.Source.Host != node || e.InvolvedObject.Kind != "Pod" {
			w.t.Errorf("event of %+v about %+v", e.Source, e.InvolvedObject)
		}
		out = append(out, fmt.Sprintf("%s %s x%d: %s", e.Type, e.Reason, e.Count, e.Message))
	}
	slices.Sort(out)
	return out
}

// counter notes the requests that concern pods.
type counter struct {
	mu       sync.Mutex // guards requests
	requests []string
}

func (c *counter) trip(next http.RoundTripper) http.RoundTripper {
	return roundTrip(func(req *http.Request) (*http.Response, error) {
		if path := strings.Split(req.URL.Path, "/"); strings.Contains(req.URL.Path, "/pods/") {
			c.mu.Lock()
			c.requests = append(c.requests, req.Method+" "+path[len(path)-1])
			c.mu.Unlock()
		}
		return next.RoundTrip(req)
	})
}

func (c *counter) list() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.requests)
}

// faulty makes the first left PATCHes fail.
type faulty struct {
	fault func(*http.Request, http.RoundTripper) (*http.Response, error)
	mu    sync.Mutex // guards left
	left  int
}

func (f *faulty) trip(next http.RoundTripper) http.RoundTripper {
	return roundTrip(func(req *http.Request) (*http.Response, error) {
		f.mu.Lock()
		bad := f.left > 0 && req.Method == http.MethodPatch
		if bad {
			f.left--
		}
		f.mu.Unlock()
		if bad {
			return f.fault(req, next)
		}
		return next.RoundTrip(req)
	})
}

func (f *faulty) over() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.left == 0
}

func answer(code int) func(*http.Request, http.RoundTripper) (*http.Response, error) {
	return func(req *http.Request, _ http.RoundTripper) (*http.Response, error) {
		return &http.Response{StatusCode: code, Status: http.StatusText(code), Request: req, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("{}"))}, nil
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (r roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return r(req) }
