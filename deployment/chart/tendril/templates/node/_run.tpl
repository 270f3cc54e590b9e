{{/* The pod of a node at work. */}}
{{- define "tendril.node.run" -}}
{{- $paths := include "tendril.paths" . | fromYaml -}}
{{- $node := .Values.node -}}
{{- $multus := or .Values.multus.takeOver .Values.multus.socket -}}
serviceAccountName: tendrild
terminationGracePeriodSeconds: 10
containers:
  - name: tendrild
    image: {{ include "tendril.image" . }}
    imagePullPolicy: {{ .Values.image.pullPolicy }}
    command: [/usr/local/bin/tendrild]
    args:
      - --config=/etc/tendril/config.json
      - --networks-config=/etc/tendril/networks.json
      - --cni-bin-dir={{ $paths.cniBin }}
      - --cni-conf-dir={{ $paths.cniConf }}
      - --kubelet-root={{ $paths.kubelet }}
      - --metrics-addr={{ .Values.metrics.expose | ternary "" "127.0.0.1" }}:{{ .Values.metrics.port }}
      - --log-level={{ $node.logLevel }}
      {{- if $node.cdi }}
      - --use-cdi
      {{- end }}
      {{- if .Values.multus.takeOver }}
      - --take-over
      {{- end }}
      {{- if .Values.multus.socket }}
      - --multus-socket=/run/multus/multus.sock
      {{- end }}
      {{- range $node.extraArgs }}
      - {{ . | quote }}
      {{- end }}
    env:
      - name: NODE_NAME
        valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
      {{- with include "tendril.apiServer" . }}
      {{- . | trim | nindent 6 }}
      {{- end }}
    # For clusters without kube-proxy: a ConfigMap that sets
    # KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT.
    envFrom:
      - configMapRef: {name: tendril-apiserver, optional: true}
    readinessProbe:
      httpGet: {host: 127.0.0.1, port: {{ .Values.metrics.port }}, path: /readyz}
      periodSeconds: 2
      timeoutSeconds: 5
    livenessProbe:
      httpGet: {host: 127.0.0.1, port: {{ .Values.metrics.port }}, path: /healthz}
      periodSeconds: 10
      failureThreshold: 6
      timeoutSeconds: 5
    securityContext:
      # sysfs and /proc/sys are written, namespaces entered, sockets made
      # in the kubelet's directories.
      privileged: true
      readOnlyRootFilesystem: true
    resources: {{- toYaml $node.resources | nindent 6 }}
    volumeMounts:
      - {name: config, mountPath: /etc/tendril, readOnly: true}
      - {name: run, mountPath: /run/tendril}
      - {name: state, mountPath: /var/lib/tendril}
      # Of the kubelet's directory only these: below it are the pods' secrets too.
      - {name: device-plugins, mountPath: {{ $paths.kubelet }}/device-plugins}
      - {name: plugins-registry, mountPath: {{ $paths.kubelet }}/plugins_registry}
      - {name: pod-resources, mountPath: {{ $paths.kubelet }}/pod-resources}
      - {name: devinfo, mountPath: /var/run/k8s.cni.cncf.io}
      - {name: cdi, mountPath: /var/run/cdi}
      # Privileged is what /dev was when the container started.
      - {name: dev, mountPath: /host/dev, readOnly: true}
      - {name: cni-bin, mountPath: {{ $paths.cniBin }}}
      - {name: cni-conf, mountPath: {{ $paths.cniConf }}}
      # allowlist.conf, which kernel parameters networks may set (tuning).
      - {name: cni-tuning, mountPath: /etc/cni/tuning, readOnly: true}
      # What Multus, sriov-cni and host-local know of pods that run. The daemon
      # and the plugins on the host have to see the same files of host-local.
      - {name: cni-state, mountPath: /var/lib/cni, mountPropagation: HostToContainer}
      # Pods' namespaces appear while the daemon runs. The runtime spells
      # the directory either way.
      - {name: netns, mountPath: /run/netns, mountPropagation: HostToContainer}
      - {name: netns, mountPath: /var/run/netns, mountPropagation: HostToContainer}
      {{- if $multus }}
      - {name: multus-run, mountPath: /run/multus}
      - {name: multus-conf, mountPath: /etc/cni/multus, readOnly: true}
      {{- end }}
      {{- range $i, $path := $node.hostPaths }}
      - {name: host-{{ $i }}, mountPath: {{ $path }}, readOnly: true, mountPropagation: HostToContainer}
      {{- end }}
volumes:
  # Both need not be there, and are followed when they come and change.
  - name: config
    projected:
      sources:
        - configMap: {name: tendril-pools, optional: true}
        - configMap: {name: tendril-networks, optional: true}
  {{- range $v := list
        (list "run" "/run/tendril" "DirectoryOrCreate")
        (list "state" "/var/lib/tendril" "DirectoryOrCreate")
        (list "device-plugins" (print $paths.kubelet "/device-plugins") "Directory")
        (list "plugins-registry" (print $paths.kubelet "/plugins_registry") "DirectoryOrCreate")
        (list "pod-resources" (print $paths.kubelet "/pod-resources") "Directory")
        (list "devinfo" "/var/run/k8s.cni.cncf.io" "DirectoryOrCreate")
        (list "cdi" "/var/run/cdi" "DirectoryOrCreate")
        (list "dev" "/dev" "Directory")
        (list "cni-bin" $paths.cniBin "DirectoryOrCreate")
        (list "cni-conf" $paths.cniConf "DirectoryOrCreate")
        (list "cni-tuning" "/etc/cni/tuning" "DirectoryOrCreate")
        (list "cni-state" "/var/lib/cni" "DirectoryOrCreate")
        (list "netns" "/run/netns" "DirectoryOrCreate") }}
  {{- include "tendril.hostPath" $v | nindent 2 }}
  {{- end }}
  {{- if $multus }}
  {{- include "tendril.hostPath" (list "multus-run" "/run/multus" "DirectoryOrCreate") | nindent 2 }}
  {{- include "tendril.hostPath" (list "multus-conf" "/etc/cni/multus" "DirectoryOrCreate") | nindent 2 }}
  {{- end }}
  {{- range $i, $path := $node.hostPaths }}
  {{- include "tendril.hostPath" (list (print "host-" $i) $path "Directory") | nindent 2 }}
  {{- end }}
{{- end -}}
