{{- define "xmoe.name" -}}
{{- default .Release.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* What every pod of the release carries, and what policies and budgets select by. */}}
{{- define "xmoe.selector" -}}
app.kubernetes.io/part-of: xmoe
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "xmoe.labels" -}}
{{ include "xmoe.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "xmoe.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{ default (include "xmoe.name" .) .Values.serviceAccount.name }}
{{- else -}}
{{ .Values.serviceAccount.name }}
{{- end -}}
{{- end -}}

{{/* What the Pod Security Standard "restricted" asks of a pod, and of each container. */}}
{{- define "xmoe.podSecurity" -}}
runAsNonRoot: true
runAsUser: 1000
runAsGroup: 1000
fsGroup: 1000
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "xmoe.containerSecurity" -}}
allowPrivilegeEscalation: false
runAsNonRoot: true
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* The claim of runs: "" where there is none. */}}
{{- define "xmoe.runsClaim" -}}
{{- if .Values.storage.runs.claim -}}
{{ .Values.storage.runs.claim }}
{{- else if .Values.storage.runs.create -}}
{{ printf "%s-runs" (include "xmoe.name" .) }}
{{- end -}}
{{- end -}}

{{- define "xmoe.redisAddress" -}}
{{- if eq .Values.redis.mode "single" -}}
redis://{{ include "xmoe.name" . }}-redis:6379
{{- else -}}
{{ required "redis.address: where the managed Redis answers, such as rediss://HOST:6379" .Values.redis.address }}
{{- end -}}
{{- end -}}

{{/* Which Service has the traffic: {"service": name, "port": number}. KubeRay shifts it between two clusters
     behind a Gateway of its own while an incremental upgrade lasts, so that one is asked then. */}}
{{- define "xmoe.backend" -}}
{{- $own := .Values.service.backend -}}
{{- $upgrade := .Values.service.upgrade -}}
{{- $name := include "xmoe.name" . -}}
{{- if $own.service -}}
{{ dict "service" $own.service "port" $own.port | toJson }}
{{- else if ne $upgrade.type "NewClusterWithIncrementalUpgrade" -}}
{{ dict "service" (printf "%s-serve-svc" $name) "port" 8000 | toJson }}
{{- else if eq $upgrade.gatewayClassName "istio" -}}
{{ dict "service" (printf "%s-gateway-istio" $name) "port" 80 | toJson }}
{{- else -}}
{{- fail (printf "service.backend.service: name the Service that the Gateway class %s makes for the Gateway %s-gateway" $upgrade.gatewayClassName $name) -}}
{{- end -}}
{{- end -}}
