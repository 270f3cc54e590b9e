{{/* The pod that takes Tendril off a node. It is ready when that is done. The
     directories above Tendril's own are mounted, since those are to go. */}}
{{- define "tendril.node.uninstall" -}}
{{- $paths := include "tendril.paths" . | fromYaml -}}
# It does not talk to the API server.
serviceAccountName: default
automountServiceAccountToken: false
terminationGracePeriodSeconds: 1
initContainers:
  - name: uninstall
    {{- include "tendril.node.uninstaller" . | nindent 4 }}
    # A refusal is then in the pod's status, for kubectl describe.
    terminationMessagePolicy: FallbackToLogsOnError
    securityContext:
      privileged: true
      readOnlyRootFilesystem: true
    volumeMounts:
      - {name: run, mountPath: /run, mountPropagation: HostToContainer}
      - {name: run, mountPath: /var/run, mountPropagation: HostToContainer}
      - {name: lib, mountPath: /var/lib}
      - {name: cni-bin, mountPath: {{ $paths.cniBin }}}
      - {name: cni-conf, mountPath: {{ $paths.cniConf }}}
containers:
  # Nothing is left to do; a DaemonSet's pods have to stay.
  - name: done
    image: {{ include "tendril.image" . }}
    imagePullPolicy: {{ .Values.image.pullPolicy }}
    command: [/usr/local/bin/tendrild, --wait]
    securityContext:
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      runAsNonRoot: true
      runAsUser: 65532
      capabilities: {drop: [ALL]}
      seccompProfile: {type: RuntimeDefault}
volumes:
  - name: run
    hostPath: {path: /run, type: Directory}
  - name: lib
    hostPath: {path: /var/lib, type: Directory}
  - name: cni-bin
    hostPath: {path: {{ $paths.cniBin }}, type: DirectoryOrCreate}
  - name: cni-conf
    hostPath: {path: {{ $paths.cniConf }}, type: DirectoryOrCreate}
{{- end -}}

{{- define "tendril.node.uninstaller" -}}
{{- $paths := include "tendril.paths" . | fromYaml -}}
image: {{ include "tendril.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
command: [/usr/local/bin/tendrild]
args:
  - --uninstall
  - --cni-bin-dir={{ $paths.cniBin }}
  - --cni-conf-dir={{ $paths.cniConf }}
  - --kubelet-root={{ $paths.kubelet }}
  - --log-level={{ .Values.node.logLevel }}
  {{- if .Values.node.force }}
  - --force
  {{- end }}
env:
  - name: NODE_NAME
    valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
{{- end -}}
