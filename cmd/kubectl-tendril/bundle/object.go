package bundle

import (
	"encoding/json"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// kept are the prefixes of annotations that are about networks.
var kept = []string{"k8s.v1.cni.cncf.io/", "v1.multus-cni.io/", "tendril.dev/", "k8s.cni.cncf.io/"}

// meta keeps of an object's metadata what tells it from others.
func meta(m metav1.ObjectMeta) metav1.ObjectMeta {
	out := metav1.ObjectMeta{Name: m.Name, Namespace: m.Namespace, UID: m.UID, CreationTimestamp: m.CreationTimestamp,
		DeletionTimestamp: m.DeletionTimestamp, ResourceVersion: m.ResourceVersion, OwnerReferences: m.OwnerReferences}
	for k, v := range m.Annotations {
		for _, prefix := range kept {
			if strings.HasPrefix(k, prefix) {
				if out.Annotations == nil {
					out.Annotations = map[string]string{}
				}
				out.Annotations[k] = Document(v)
			}
		}
	}
	return out
}

// Pod keeps of a user's pod what its networks depend on: no environment, no
// command, no volume.
func Pod(p corev1.Pod) corev1.Pod {
	out := corev1.Pod{ObjectMeta: meta(p.ObjectMeta), Status: status(p.Status)}
	out.Labels = p.Labels
	out.Spec = corev1.PodSpec{NodeName: p.Spec.NodeName, NodeSelector: p.Spec.NodeSelector, Tolerations: p.Spec.Tolerations,
		HostNetwork: p.Spec.HostNetwork, SchedulerName: p.Spec.SchedulerName, ResourceClaims: p.Spec.ResourceClaims}
	out.Spec.InitContainers, out.Spec.Containers = containers(p.Spec.InitContainers, false), containers(p.Spec.Containers, false)
	return out
}

// Own keeps more of one of Tendril's own pods: what it was started with, without
// the values of its environment.
func Own(p corev1.Pod) corev1.Pod {
	out := Pod(p)
	out.Spec.InitContainers, out.Spec.Containers = containers(p.Spec.InitContainers, true), containers(p.Spec.Containers, true)
	out.Spec.PriorityClassName, out.Spec.ServiceAccountName = p.Spec.PriorityClassName, p.Spec.ServiceAccountName
	return out
}

func containers(all []corev1.Container, own bool) []corev1.Container {
	var out []corev1.Container
	for _, c := range all {
		one := corev1.Container{Name: c.Name, Image: c.Image, Resources: c.Resources}
		if own {
			one.Command, one.Args = words(c.Command), words(c.Args)
			for _, e := range c.Env {
				one.Env = append(one.Env, corev1.EnvVar{Name: e.Name, Value: gone})
			}
		}
		out = append(out, one)
	}
	return out
}

// flag is a command line's name of something secret, whose value is the next word.
var flag = regexp.MustCompile(`(?i)^--?[\w.-]*(` + secretWords + `)[\w.-]*$`)

func words(all []string) []string {
	out := make([]string, len(all))
	for i, word := range all {
		out[i] = word
		if i > 0 && flag.MatchString(all[i-1]) {
			out[i] = gone
		}
	}
	return out
}

// status keeps a pod's status without the messages of its containers' ends, which
// are the programs' own words.
func status(s corev1.PodStatus) corev1.PodStatus {
	out := *s.DeepCopy()
	for _, list := range [][]corev1.ContainerStatus{out.ContainerStatuses, out.InitContainerStatuses} {
		for i := range list {
			for _, state := range []*corev1.ContainerState{&list[i].State, &list[i].LastTerminationState} {
				if state.Terminated != nil && state.Terminated.Message != "" {
					state.Terminated.Message = gone
				}
			}
		}
	}
	return out
}

// Map keeps the fields of an unstructured object that are its own: no managed
// fields, no copy of what was applied, and text that is JSON without its secrets.
func Map(object map[string]any) map[string]any {
	m, _ := object["metadata"].(map[string]any)
	delete(m, "managedFields")
	if a, ok := m["annotations"].(map[string]any); ok {
		delete(a, "kubectl.kubernetes.io/last-applied-configuration")
	}
	clean, _ := scrub(object).(map[string]any)
	return clean
}

// secret is a name of something secret.
var secret = regexp.MustCompile(`(?i)(` + secretWords + `|caBundle|^env$)`)

// scrub takes away the values of names that sound secret, at any depth.
func scrub(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, inner := range v {
			if secret.MatchString(k) {
				v[k] = gone
			} else {
				v[k] = scrub(inner)
			}
		}
		return v
	case []any:
		for i := range v {
			v[i] = scrub(v[i])
		}
		return v
	case string:
		return Document(v)
	}
	return v
}

// Document returns a text, without its secrets if it is a JSON object or list, as
// networks' configurations and annotations are; any other text as it is.
func Document(text string) string {
	trimmed := strings.TrimSpace(text)
	if !strings.HasPrefix(trimmed, "{") && !strings.HasPrefix(trimmed, "[") {
		return text
	}
	var v any
	if json.Unmarshal([]byte(trimmed), &v) != nil {
		return text
	}
	clean, err := json.Marshal(scrub(v))
	if err != nil {
		return gone
	}
	return string(clean)
}
