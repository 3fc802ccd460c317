{{/* The spec of a Ray cluster. Takes root, part ("service", "cluster" or "job"), groups. What is served reads
     the runs alone; a cluster and jobs write them, and read the data where there is a claim of it. The head's
     autoscaler asks Kubernetes for pods, so it alone has the account's token. */}}
{{- define "xmoe.cluster" -}}
rayVersion: {{ .root.Values.rayVersion | quote }}
enableInTreeAutoscaling: true
autoscalerOptions:
  version: v2
  idleTimeoutSeconds: {{ .root.Values.autoscaler.idleTimeoutSeconds }}
  resources:
    {{- toYaml .root.Values.autoscaler.resources | nindent 4 }}
  securityContext:
    {{- include "xmoe.containerSecurity" . | nindent 4 }}
authOptions:
  mode: token
  secretName: {{ .root.Values.secrets.ray }}
{{- if and (ne .root.Values.redis.mode "none") (ne .part "job") }}
gcsFaultToleranceOptions:
  redisAddress: {{ include "xmoe.redisAddress" .root }}
  redisPassword:
    valueFrom:
      secretKeyRef:
        name: {{ .root.Values.redis.secret }}
        key: password
{{- end }}
headGroupSpec:
  rayStartParams:
    dashboard-host: 0.0.0.0
    num-cpus: "0"
  template:
    {{- include "xmoe.pod" (dict "root" .root "part" .part "name" "head" "group" .root.Values.head) | nindent 4 }}
workerGroupSpecs:
  {{- range $name, $group := default (dict "workers" dict) .groups }}
  {{- $whole := mergeOverwrite (deepCopy $.root.Values.group) $group }}
  - groupName: {{ $name }}
    replicas: {{ $whole.min }}
    minReplicas: {{ $whole.min }}
    maxReplicas: {{ $whole.max }}
    rayStartParams: {}
    {{- with $whole.custom }}
    resources:
      {{- range $resource, $amount := . }}
      {{ $resource }}: {{ $amount | quote }}
      {{- end }}
    {{- end }}
    template:
      {{- include "xmoe.pod" (dict "root" $.root "part" $.part "name" $name "group" $whole) | nindent 6 }}
  {{- end }}
{{- end -}}

{{/* One pod of a cluster. Takes root, part, name (of the group, or "head"), group. */}}
{{- define "xmoe.pod" -}}
{{- $head := eq .name "head" -}}
{{- $served := eq .part "service" -}}
{{- $component := printf "%s-%s" .part .name -}}
{{- $runs := include "xmoe.runsClaim" .root -}}
{{- $data := ternary "" .root.Values.storage.data.claim $served -}}
{{- $selector := include "xmoe.selector" .root -}}
metadata:
  labels:
    {{- $selector | nindent 4 }}
    app.kubernetes.io/component: {{ $component }}
  {{- if and $served .root.Values.service.upgrade.newClusterPerRun }}
  annotations:
    xmoe/run: {{ .root.Values.service.run | quote }}
  {{- end }}
spec:
  {{- with include "xmoe.serviceAccount" .root }}
  serviceAccountName: {{ . }}
  {{- end }}
  automountServiceAccountToken: {{ $head }}
  securityContext:
    {{- include "xmoe.podSecurity" . | nindent 4 }}
  terminationGracePeriodSeconds: 60
  {{- with .root.Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .group.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .group.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if and $served (not $head) }}
  {{- with .root.Values.topologySpread }}
  topologySpreadConstraints:
    {{- range . }}
    - topologyKey: {{ .topologyKey }}
      maxSkew: {{ .maxSkew }}
      whenUnsatisfiable: {{ .whenUnsatisfiable }}
      matchLabelKeys: [ray.io/cluster]
      labelSelector:
        matchLabels:
          {{- $selector | nindent 10 }}
          app.kubernetes.io/component: {{ $component }}
    {{- end }}
  {{- end }}
  {{- end }}
  containers:
    - name: {{ ternary "ray-head" "ray-worker" $head }}
      image: {{ get .root.Values.images .group.image }}
      imagePullPolicy: {{ .root.Values.imagePullPolicy }}
      {{- if or $served .root.Values.env }}
      env:
        {{- if $served }}
        - name: {{ .root.Values.service.settings.http.token_variable }}
          valueFrom:
            secretKeyRef:
              name: {{ .root.Values.secrets.api }}
              key: token
        {{- end }}
        {{- with .root.Values.env }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- end }}
      ports:
        {{- if $head }}
        - {name: gcs-server, containerPort: 6379}
        - {name: dashboard, containerPort: 8265}
        {{- end }}
        - {name: metrics, containerPort: 8080}
        {{- if or $head $served }}
        - {name: serve, containerPort: 8000}
        {{- end }}
      resources:
        {{- $size := dict "cpu" (toString .group.cpu) "memory" .group.memory }}
        {{- if .group.gpus }}{{ $_ := set $size "nvidia.com/gpu" (toString .group.gpus) }}{{ end }}
        {{- toYaml (dict "requests" $size "limits" $size) | nindent 8 }}
      securityContext:
        {{- include "xmoe.containerSecurity" . | nindent 8 }}
      volumeMounts:
        {{- if $runs }}
        - {name: runs, mountPath: /runs, readOnly: {{ $served }}}
        {{- end }}
        {{- if $data }}
        - {name: data, mountPath: /data, readOnly: true}
        {{- end }}
        - {name: shm, mountPath: /dev/shm}
  volumes:
    {{- if $runs }}
    - name: runs
      persistentVolumeClaim:
        claimName: {{ $runs }}
    {{- end }}
    {{- if $data }}
    - name: data
      persistentVolumeClaim:
        claimName: {{ $data }}
    {{- end }}
    - name: shm
      emptyDir:
        medium: Memory
        # As much as the pod may have at all: Ray's store is 30 % of that, and is put on disk where it does not fit.
        sizeLimit: {{ .group.memory }}
{{- end -}}
