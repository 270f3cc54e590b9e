{{/* The pod that takes Tendril off a node. It is ready when that is done. The
     directories above Tendril's own are mounted, since those are to go. */}}
{{- define "tendril.node.uninstall" -}}
{{- $paths := include "tendril.paths" . | fromYaml -}}
# What takes Tendril off gives the node's addresses back, at the API server; what
# stays after it needs no token.
serviceAccountName: tendrild
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
      - {name: netns, mountPath: /var/run/netns, mountPropagation: HostToContainer}
      - {name: devinfo, mountPath: /var/run/k8s.cni.cncf.io}
      - {name: cdi, mountPath: /var/run/cdi}
      - {name: token, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true}
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
  - name: token
    projected:
      sources:
        - serviceAccountToken: {path: token}
        - configMap: {name: kube-root-ca.crt, items: [{key: ca.crt, path: ca.crt}]}
        - downwardAPI: {items: [{path: namespace, fieldRef: {fieldPath: metadata.namespace}}]}
  - name: run
    hostPath: {path: /run, type: Directory}
  - name: netns
    hostPath: {path: /run/netns, type: DirectoryOrCreate}
  - name: devinfo
    hostPath: {path: /var/run/k8s.cni.cncf.io, type: DirectoryOrCreate}
  - name: cdi
    hostPath: {path: /var/run/cdi, type: DirectoryOrCreate}
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
  {{- with include "tendril.apiServer" . }}
  {{- . | trim | nindent 2 }}
  {{- end }}
# For clusters without kube-proxy, as the daemon.
envFrom:
  - configMapRef: {name: tendril-apiserver, optional: true}
{{- end -}}
