{{- /* Short enough for the names that are made of it: of Services and of pods. */ -}}
{{- define "flowmetrics.name" -}}
{{- $name := contains .Chart.Name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) -}}
{{- $name | trunc 46 | trimSuffix "-" }}
{{- end }}

{{- define "flowmetrics.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "flowmetrics.labels" -}}
{{ include "flowmetrics.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "flowmetrics.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}{{ .Values.serviceAccount.name | default (include "flowmetrics.name" .) }}
{{- else }}{{ .Values.serviceAccount.name | default "default" }}{{ end }}
{{- end }}

{{- define "flowmetrics.onKafka" -}}
{{- if hasPrefix "kafka://" .Values.config.broker }}true{{ end }}
{{- end }}

{{- define "flowmetrics.prefix" -}}
{{- dig "topics" "prefix" "flowmetrics" .Values.config }}
{{- end }}

{{- define "flowmetrics.strimziNamespace" -}}
{{- .Values.strimzi.namespace | default .Release.Namespace }}
{{- end }}

{{- define "flowmetrics.partitions" -}}
{{- dig "topics" "partitions" 6 .Values.config | int }}
{{- end }}

{{- /* A duration of flowmetrics.yaml, such as 400d, in milliseconds. */ -}}
{{- define "flowmetrics.milliseconds" -}}
{{- $unit := regexFind "[smhdw]$" . -}}
{{- mul (trimSuffix $unit . | int64) (get (dict "s" 1000 "m" 60000 "h" 3600000 "d" 86400000 "w" 604800000) $unit | int64) }}
{{- end }}

{{- /* Strimzi's Secrets that a worker needs. */ -}}
{{- define "flowmetrics.caSecret" -}}
{{ .Values.strimzi.cluster }}-cluster-ca-cert
{{- end }}

{{- /* flowmetrics.yaml: what was said wins over how Strimzi lets us in, and what the pod is made for over both. */ -}}
{{- define "flowmetrics.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- if .Values.strimzi.user.enabled -}}
{{- $_ := merge $config (dict "kafka" (dict
      "security" "sasl_tls"
      "mechanism" "SCRAM-SHA-512"
      "user" (include "flowmetrics.name" .)
      "password_file" (printf "/run/secrets/%s/password" (include "flowmetrics.name" .))
      "ca_file" (printf "/run/secrets/%s/ca.crt" (include "flowmetrics.caSecret" .)))) -}}
{{- end -}}
{{- $made := dict "http" (dict "listen" "0.0.0.0:8080") -}}
{{- if include "flowmetrics.onKafka" . -}}
{{- $_ := set $made "kafka" (dict "store" "/var/lib/flowmetrics/store") -}}
{{- end -}}
{{- mergeOverwrite $config $made | toYaml }}
{{- end }}

{{- define "flowmetrics.secrets" -}}
{{- $secrets := .Values.secrets -}}
{{- if .Values.strimzi.user.enabled -}}
{{- $secrets = concat $secrets (list (include "flowmetrics.name" .) (include "flowmetrics.caSecret" .)) -}}
{{- end -}}
{{- $secrets | toJson }}
{{- end }}

{{- /* Files of rules, name → text. The name is that of the file, and "flowmetrics-" may be left out. */ -}}
{{- define "flowmetrics.shippedRules" -}}
{{- $files := dict -}}
{{- range $path, $_ := .Files.Glob "files/rules/*.yaml" -}}
{{- $_ := set $files (base $path | trimSuffix ".yaml" | trimPrefix "flowmetrics-") ($.Files.Get $path) -}}
{{- end -}}
{{- $files | toJson }}
{{- end }}

{{- define "flowmetrics.ownRules" -}}
{{- $files := dict -}}
{{- range $name, $text := .Values.prometheusRule.files -}}
{{- $_ := set $files (trimPrefix "flowmetrics-" $name) $text -}}
{{- end -}}
{{- $files | toJson }}
{{- end }}

{{- /* Keys of flowmetrics.yaml that the rules are made of: the shipped ones are made of none. */ -}}
{{- define "flowmetrics.rulesChecked" -}}
{{- $said := list -}}
{{- range $key := list "alerts" "expectations" "kpis" "percentiles" "surveys" "windows" -}}
{{- if hasKey $.Values.config $key -}}{{- $said = append $said (printf "config.%s" $key) -}}{{- end -}}
{{- end -}}
{{- $own := include "flowmetrics.ownRules" . | fromJson -}}
{{- $missing := list -}}
{{- range $name, $_ := include "flowmetrics.shippedRules" . | fromJson -}}
{{- if not (hasKey $own $name) -}}
{{- $missing = append $missing (printf "--set-file prometheusRule.files.%s=deploy/prometheus/rules/flowmetrics-%s.yaml" $name $name) -}}
{{- end -}}
{{- end -}}
{{- if and $said $missing -}}
{{- fail (printf "%s: the shipped rules for Prometheus do not follow; make your own with `flowmetrics generate rules --config flowmetrics.yaml`, and add %s" (join ", " $said) (join " " $missing)) -}}
{{- end -}}
{{- end }}

{{- /* Strimzi would add partitions to the topics of an engine that is there, and no engine could use them again. */ -}}
{{- define "flowmetrics.partitionsChecked" -}}
{{- $there := lookup .Values.strimzi.apiVersion "KafkaTopic" (include "flowmetrics.strimziNamespace" .) (printf "%s-track" (include "flowmetrics.name" .)) -}}
{{- $made := dig "spec" "partitions" 0 $there | int -}}
{{- $said := include "flowmetrics.partitions" . | int -}}
{{- if and $made (ne $made $said) -}}
{{- fail (printf "config.topics.partitions is %d and the topics of this release have %d, which is fixed; say %d, or install another release with another config.topics.prefix and import the events again" $said $made $made) -}}
{{- end -}}
{{- end }}

{{- /* What the schema cannot say, because it looks at one value at a time. */ -}}
{{- define "flowmetrics.checked" -}}
{{- if .Values.prometheusRule.enabled -}}{{- include "flowmetrics.rulesChecked" . -}}{{- end -}}
{{- if .Values.strimzi.topics.enabled -}}{{- include "flowmetrics.partitionsChecked" . -}}{{- end -}}
{{- $partitions := include "flowmetrics.partitions" . | int -}}
{{- if include "flowmetrics.onKafka" . -}}
{{- if and .Values.autoscaling.enabled (gt (int .Values.autoscaling.max) $partitions) -}}
{{- fail (printf "autoscaling.max is %d and config.topics.partitions %d: a worker without a partition does nothing; lower the one, or raise the other before the first start, as it is fixed from then on" (int .Values.autoscaling.max) $partitions) -}}
{{- end -}}
{{- if and .Values.autoscaling.enabled (gt (int .Values.autoscaling.min) (int .Values.autoscaling.max)) -}}
{{- fail "autoscaling.min is more than autoscaling.max" -}}
{{- end -}}
{{- if gt (int .Values.replicas) $partitions -}}
{{- fail (printf "replicas is %d and config.topics.partitions %d: a worker without a partition does nothing; lower the one, or raise the other before the first start, as it is fixed from then on" (int .Values.replicas) $partitions) -}}
{{- end -}}
{{- if and (or .Values.strimzi.topics.enabled .Values.strimzi.user.enabled) (not .Values.strimzi.cluster) -}}
{{- fail "strimzi.cluster is missing: name the Kafka resource that topics and user belong to" -}}
{{- end -}}
{{- else -}}
{{- if or (gt (int .Values.replicas) 1) .Values.autoscaling.enabled -}}
{{- fail "config.broker is a data directory, which one process holds: say replicas: 1 without autoscaling, or config.broker: kafka://…" -}}
{{- end -}}
{{- if or .Values.strimzi.topics.enabled .Values.strimzi.user.enabled -}}
{{- fail "strimzi makes topics and users of Kafka, and config.broker is a data directory: say config.broker: kafka://…" -}}
{{- end -}}
{{- if not (hasPrefix "local:///var/lib/flowmetrics" .Values.config.broker) -}}
{{- fail "config.broker names a directory outside of the volume, which is /var/lib/flowmetrics; say local:///var/lib/flowmetrics" -}}
{{- end -}}
{{- end -}}
{{- end }}
