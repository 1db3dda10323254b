{{- /* The name of everything, and the labels that select the one pod and that all objects have. */ -}}
{{- define "onced.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "onced.selector" -}}
app.kubernetes.io/name: onced
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "onced.labels" -}}
{{ include "onced.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "onced.account" -}}
{{ .Values.serviceAccount.name | default (include "onced.name" .) }}
{{- end -}}

{{- define "onced.image" -}}
{{- $repository := required "image.repository is empty: name the image that was built from .deploy/Containerfile" .Values.image.repository -}}
{{- if .Values.image.digest -}}
{{ $repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ $repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- /* How the kubelet asks; takes (list $ "SERVICE" "PATH"). It speaks no TLS over gRPC, so where the
server does, the port for Prometheus is asked, which says the same. */ -}}
{{- define "onced.probe" -}}
{{- $root := index . 0 -}}
{{- if $root.Values.tls.secretName -}}
{{- if not $root.Values.metrics.enabled -}}
{{- fail "metrics.enabled is false, and with TLS the kubelet asks on that port: set it to true" -}}
{{- end -}}
httpGet:
  port: metrics
  path: {{ index . 2 }}
{{- else -}}
grpc:
  port: 50051
  service: {{ index . 1 | quote }}
{{- end -}}
{{- end -}}
