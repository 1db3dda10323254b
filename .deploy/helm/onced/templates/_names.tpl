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

{{- /* How the kubelet asks for the health of a service; takes (list $ "SERVICE"). */ -}}
{{- define "onced.probe" -}}
{{- $root := index . 0 -}}
{{- $service := index . 1 -}}
{{- if eq $root.Values.probes.type "grpc" -}}
grpc:
  port: 50051
  service: {{ $service | quote }}
{{- else -}}
exec:
  command:
    - /usr/local/bin/onced
    - health
    - --service={{ $service }}
    - --timeout=4s
    {{- range $root.Values.probes.execArguments }}
    - {{ . | quote }}
    {{- end }}
{{- end -}}
{{- end -}}
