package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/record"

	"github.com/tendril-cni/tendril/cni"
)

// component is the source of events and the owner of written fields.
const component = "tendril"

// Reasons of events. The first two are those of Multus, the third is that of the
// multus-dynamic-networks-controller: what people look for.
const (
	reasonAdded     = "AddedInterface"
	reasonNoNetwork = "NoNetworkFound"
	reasonFailed    = "FailedAddingInterface"
)

// callAnnotation names the call that an event is about.
const callAnnotation = "tendril.dev/call"

// mostMessage is what the API server takes (core/v1 Event validation), in bytes.
const mostMessage = 1024

// Added emits a Normal event AddedInterface in the words of Multus, which has an
// event for each interface: one for all of them is one write instead of many, and
// the API server's own bounds on events do not swallow those of a large pod. It
// takes more where one event has no room for all.
func (r *Reporter) Added(pod cni.PodRef, made []cni.Made) {
	if r.noAdded {
		return
	}
	var message string
	for _, m := range made {
		text := added(m)
		if message != "" && len(message)+len("; ")+len(text) > mostMessage {
			r.emit(pod, corev1.EventTypeNormal, reasonAdded, message, "")
			message = ""
		}
		if message != "" {
			message += "; "
		}
		message += text
	}
	r.emit(pod, corev1.EventTypeNormal, reasonAdded, message, "")
}

func added(m cni.Made) string {
	texts := make([]string, len(m.Addresses))
	for i, a := range m.Addresses {
		texts[i] = a.Prefix.String()
	}
	return fmt.Sprintf("Add %s %v from %s", m.IfName, texts, m.Network)
}

// Refused emits a Warning event with the text of err: NoNetworkFound when a
// NetworkAttachmentDefinition does not exist, FailedAddingInterface otherwise. The
// id of a cni.CallError ends the message.
func (r *Reporter) Refused(pod cni.PodRef, err error) {
	reason := reasonFailed
	if errors.Is(err, errNoNetwork) {
		reason = reasonNoNetwork
	}
	var in *cni.CallError
	call := ""
	if errors.As(err, &in) {
		call = in.ID
	}
	r.emit(pod, corev1.EventTypeWarning, reason, err.Error(), call)
}

func (r *Reporter) emit(pod cni.PodRef, kind, reason, message, call string) {
	if pod.Name == "" || pod.Namespace == "" {
		return // a call that is of no pod
	}
	event := r.event(kind, reason, message, corev1.ObjectReference{
		APIVersion: "v1", Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: types.UID(pod.UID),
	})
	event.Namespace = pod.Namespace
	if call != "" {
		event.Annotations = map[string]string{callAnnotation: call}
	}
	r.send(event)
}

// event is one about object, without a namespace yet.
func (r *Reporter) event(kind, reason, message string, object corev1.ObjectReference) *corev1.Event {
	now := metav1.Now()
	return &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Name: fmt.Sprintf("%s.%x", object.Name, now.UnixNano())},
		InvolvedObject: object,
		Type:           kind, Reason: reason, Message: shortened(message, mostMessage), Count: 1, FirstTimestamp: now, LastTimestamp: now,
		Source:              corev1.EventSource{Component: component, Host: r.node},
		ReportingController: component, ReportingInstance: r.node,
	}
}

// shortened cuts a message to most bytes.
func shortened(message string, most int) string {
	if len(message) <= most {
		return message
	}
	return strings.ToValidUTF8(message[:most-3], "") + "..."
}

func (r *Reporter) send(event *corev1.Event) {
	if !r.events.put(event) {
		r.log.Warn("event dropped, too many wait", "object", event.InvolvedObject.Name, "reason", event.Reason, "message", event.Message)
	}
}

// writeEvents sends events until ctx ends, and then those that wait.
func (r *Reporter) writeEvents(ctx, work context.Context) {
	// As client-go's recorder: repetitions become a count, floods are cut.
	correlator := record.NewEventCorrelatorWithOptions(record.CorrelatorOptions{})
	for {
		end := ctx.Err() != nil
		event, wait := r.events.take(time.Now(), end)
		switch {
		case event != nil:
			r.writeEvent(work, correlator, event)
		case end:
			return
		default:
			r.awaitEvent(ctx, wait)
		}
	}
}

// awaitEvent returns after wait, unless that is negative, or when an event has come
// or ctx has ended.
func (r *Reporter) awaitEvent(ctx context.Context, wait time.Duration) {
	var turn <-chan time.Time
	if wait >= 0 {
		turn = time.After(wait)
	}
	select {
	case <-turn:
	case <-r.events.changed:
	case <-ctx.Done():
	}
}

// eventTries and eventPause: an event is worth a few attempts, the API server
// being restarted, but it must not hold up those behind it for long.
const (
	eventTries = 5
	eventPause = time.Second
)

func (r *Reporter) writeEvent(ctx context.Context, correlator *record.EventCorrelator, event *corev1.Event) {
	result, err := correlator.EventCorrelate(event)
	if err != nil || result.Skip {
		return // said often enough
	}
	for try := 1; ; try++ {
		written, err := r.sink.write(ctx, named(result, event.Annotations[callAnnotation]))
		if err == nil {
			written.Message = result.Event.Message // by which the correlator knows it
			correlator.UpdateState(written)
			return
		}
		// An answer is final: the namespace is being deleted, the event is not
		// allowed. No answer may get better.
		status := apierrors.APIStatus(nil)
		if errors.As(err, &status) && !apierrors.IsTooManyRequests(err) && !apierrors.IsServerTimeout(err) || try == eventTries {
			r.log.Warn("event not written", "pod", event.Namespace+"/"+event.InvolvedObject.Name, "reason", event.Reason, "message", event.Message, "error", err)
			return
		}
		select {
		case <-time.After(eventPause):
		case <-ctx.Done():
		}
	}
}

// named is result with a call's id at the end of its message. It comes in only now,
// since tries of one thing are one event: its message names the last of them.
func named(result *record.EventCorrelateResult, call string) *record.EventCorrelateResult {
	if call == "" {
		return result
	}
	suffix := " (call " + call + ")"
	event := result.Event.DeepCopy()
	event.Message = shortened(event.Message, mostMessage-len(suffix)) + suffix
	metav1.SetMetaDataAnnotation(&event.ObjectMeta, callAnnotation, call)
	out := &record.EventCorrelateResult{Event: event, Patch: result.Patch}
	patch := map[string]any{}
	if json.Unmarshal(result.Patch, &patch) == nil {
		patch["message"] = event.Message
		meta, _ := patch["metadata"].(map[string]any)
		if meta == nil {
			meta = map[string]any{}
		}
		meta["annotations"] = map[string]string{callAnnotation: call}
		patch["metadata"] = meta
		if data, err := json.Marshal(patch); err == nil {
			out.Patch = data
		}
	}
	return out
}

// sink writes events. It is a bare REST client, since client-go's set of typed
// clients would bring every API type into the daemon's memory.
type sink struct {
	client rest.Interface
}

func newSink(config *rest.Config) (sink, error) {
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		return sink{}, err
	}
	config = rest.CopyConfig(config)
	config.APIPath, config.GroupVersion = "/api", &corev1.SchemeGroupVersion
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	client, err := rest.RESTClientFor(config)
	return sink{client: client}, err
}

// write creates an event, or raises the count of one that was written before.
func (s sink) write(ctx context.Context, c *record.EventCorrelateResult) (*corev1.Event, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	written := &corev1.Event{}
	if c.Event.Count > 1 {
		err := s.client.Patch(types.StrategicMergePatchType).Namespace(c.Event.Namespace).Resource("events").
			Name(c.Event.Name).Body(c.Patch).Do(ctx).Into(written)
		if !apierrors.IsNotFound(err) {
			return written, err
		}
		// The first one has expired; this one takes its place.
		c.Event.ResourceVersion = ""
	}
	err := s.client.Post().Namespace(c.Event.Namespace).Resource("events").Body(c.Event).Do(ctx).Into(written)
	return written, err
}
