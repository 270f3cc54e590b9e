package inject

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// The volume in which programs find what was attached (app-netutil reads it).
const (
	volumeName   = "podnetinfo"
	mountPath    = "/etc/podnetinfo"
	containerEnv = "CONTAINER_NAME"
)

// podnetinfo adds the downward API volume and its mount in every regular
// container that has none, and tells containers with huge pages their name.
func (p *planner) podnetinfo() {
	for i, c := range p.pod.Spec.Containers {
		p.mount(i, c)
	}
	var pages []corev1.DownwardAPIVolumeFile
	if p.options.Hugepages {
		for i, c := range p.pod.Spec.Containers {
			own := hugepages(c)
			if len(own) > 0 {
				p.env(i, c)
			}
			pages = append(pages, own...)
		}
	}
	if slices.ContainsFunc(p.pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == volumeName }) {
		return
	}
	var items []corev1.DownwardAPIVolumeFile
	if len(p.pod.Labels) > 0 {
		items = append(items, file("labels", "metadata.labels"))
	}
	if len(p.annotations) > 0 {
		items = append(items, file("annotations", "metadata.annotations"))
	}
	volume := corev1.Volume{Name: volumeName, VolumeSource: corev1.VolumeSource{
		DownwardAPI: &corev1.DownwardAPIVolumeSource{Items: append(items, pages...)},
	}}
	if len(p.pod.Spec.Volumes) == 0 {
		p.add("/spec/volumes", []corev1.Volume{volume})
		return
	}
	p.add("/spec/volumes/-", volume)
}

func file(name, fieldPath string) corev1.DownwardAPIVolumeFile {
	return corev1.DownwardAPIVolumeFile{Path: name, FieldRef: &corev1.ObjectFieldSelector{FieldPath: fieldPath}}
}

// mount adds the mount to container i, unless one has its name. Another mount at
// its path would make the API server refuse the pod: that one stays.
func (p *planner) mount(i int, c corev1.Container) {
	for _, m := range c.VolumeMounts {
		switch {
		case m.Name == volumeName:
			return
		case path.Clean(m.MountPath) == mountPath:
			p.warn("container %s: volume %s is mounted at %s, so podnetinfo is not", c.Name, m.Name, mountPath)
			return
		}
	}
	m := corev1.VolumeMount{Name: volumeName, ReadOnly: true, MountPath: mountPath}
	at := fmt.Sprintf("/spec/containers/%d/volumeMounts", i)
	if len(c.VolumeMounts) == 0 {
		p.add(at, []corev1.VolumeMount{m})
		return
	}
	p.add(at+"/-", m)
}

// env tells container i its name, unless the variable is set already.
func (p *planner) env(i int, c corev1.Container) {
	for _, e := range c.Env {
		if e.Name == containerEnv {
			if e.Value != c.Name {
				p.warn("container %s: variable %s keeps its value %q", c.Name, containerEnv, e.Value)
			}
			return
		}
	}
	e := corev1.EnvVar{Name: containerEnv, Value: c.Name}
	at := fmt.Sprintf("/spec/containers/%d/env", i)
	if len(c.Env) == 0 {
		p.add(at, []corev1.EnvVar{e})
		return
	}
	p.add(at+"/-", e)
}

// hugepages returns a file for each size that the container requests or is
// limited to, in MiB. The files' names have the size without its i.
func hugepages(c corev1.Container) []corev1.DownwardAPIVolumeFile {
	var out []corev1.DownwardAPIVolumeFile
	for _, kind := range []struct {
		name, prefix string
		list         corev1.ResourceList
	}{{"request", "requests.", c.Resources.Requests}, {"limit", "limits.", c.Resources.Limits}} {
		for _, name := range slices.Sorted(maps.Keys(kind.list)) {
			size, huge := strings.CutPrefix(string(name), corev1.ResourceHugePagesPrefix)
			if q := kind.list[name]; !huge || size == "" || q.IsZero() {
				continue
			}
			out = append(out, corev1.DownwardAPIVolumeFile{
				Path: fmt.Sprintf("hugepages_%s_%s_%s", strings.TrimSuffix(size, "i"), kind.name, c.Name),
				ResourceFieldRef: &corev1.ResourceFieldSelector{
					ContainerName: c.Name, Resource: kind.prefix + string(name), Divisor: resource.MustParse("1Mi"),
				},
			})
		}
	}
	return out
}
