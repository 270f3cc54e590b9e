{{- define "tendril.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* Directories of a platform: the CNI executables, the CNI configuration, the kubelet's root. */}}
{{- define "tendril.platforms" -}}
kubernetes: {cniBin: /opt/cni/bin, cniConf: /etc/cni/net.d, kubelet: /var/lib/kubelet}
openshift: {cniBin: /var/lib/cni/bin, cniConf: /etc/kubernetes/cni/net.d, kubelet: /var/lib/kubelet}
k3s: {cniBin: /var/lib/rancher/k3s/data/cni, cniConf: /var/lib/rancher/k3s/agent/etc/cni/net.d, kubelet: /var/lib/kubelet}
rke2: {cniBin: /opt/cni/bin, cniConf: /etc/cni/net.d, kubelet: /var/lib/kubelet}
microk8s: {cniBin: /var/snap/microk8s/current/opt/cni/bin, cniConf: /var/snap/microk8s/current/args/cni-network, kubelet: /var/snap/microk8s/common/var/lib/kubelet}
{{- end -}}

{{- define "tendril.paths" -}}
{{- $preset := get (include "tendril.platforms" . | fromYaml) .Values.platform -}}
cniBin: {{ .Values.paths.cniBin | default $preset.cniBin }}
cniConf: {{ .Values.paths.cniConf | default $preset.cniConf }}
kubelet: {{ .Values.paths.kubelet | default $preset.kubelet }}
{{- end -}}

{{- define "tendril.node.labels" -}}
{app.kubernetes.io/name: tendrild, app.kubernetes.io/part-of: tendril}
{{- end -}}

{{- define "tendril.controller.labels" -}}
{app.kubernetes.io/name: tendril-controller, app.kubernetes.io/part-of: tendril}
{{- end -}}

{{/* Labels by which others find what is to be monitored: ours, and the values'. */}}
{{- define "tendril.monitoring.labels" -}}
{{ merge (dict "app.kubernetes.io/part-of" "tendril") .Values.metrics.labels | toJson }}
{{- end -}}

{{/* Where the API server is, for a container that talks to it. */}}
{{- define "tendril.apiServer" -}}
{{- if .Values.apiServer.host }}
- {name: KUBERNETES_SERVICE_HOST, value: {{ .Values.apiServer.host | quote }}}
- {name: KUBERNETES_SERVICE_PORT, value: {{ .Values.apiServer.port | default "443" | toString | quote }}}
{{- end }}
{{- end -}}

{{/* One more volume at its own path; argument: a list of name, path, type. */}}
{{- define "tendril.hostPath" -}}
- name: {{ index . 0 }}
  hostPath: {path: {{ index . 1 }}, type: {{ index . 2 }}}
{{- end -}}

{{/* The authority of the webhooks' certificate, where the release knows it. */}}
{{- define "tendril.caBundle" -}}
{{- with .Values.webhook.certificate -}}
{{- if and (eq .mode "secret") .caBundle }}
caBundle: {{ .caBundle }}
{{- end }}
{{- end }}
{{- end -}}
