{{- define "quanyu.name" -}}
{{- if contains "quanyu" .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-quanyu" .Release.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "quanyu.image" -}}
{{- if .Values.image.digest }}{{ .Values.image.repository }}@{{ .Values.image.digest }}{{ else }}{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{- define "quanyu.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (ternary (include "quanyu.name" .) "default" .Values.serviceAccount.create) }}
{{- end }}

{{/* Labels of an object. Call with (dict "root" $ "part" …); part may be empty. */}}
{{- define "quanyu.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{ include "quanyu.selector" . }}
{{- end }}

{{- define "quanyu.selector" -}}
app.kubernetes.io/name: quanyu
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .part }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- with .set }}
quanyu/set: {{ . }}
{{- end }}
{{- end }}

{{/* Metrics port of a part, an offset from QUANYU_PORT (schemas/settings.py). */}}
{{- define "quanyu.port" -}}
{{- get (dict "gateway" 8000 "worker" 8004 "sink" 8005 "monitor" 8006 "connectors" 8007 "webhooks" 8009) .part }}
{{- end }}

{{/* Whether the webhooks run in a pod of their own: as soon as one set of connectors is limited. */}}
{{- define "quanyu.webhooksApart" -}}
{{- range .Values.connectors.sets }}{{ if .channels }}yes{{ end }}{{ end }}
{{- end }}

{{/* Where the parts answer, for those that ask them. */}}
{{- define "quanyu.parts" -}}
{{- $name := include "quanyu.name" . }}
{{- $connectors := list }}
{{- range .Values.connectors.sets }}{{ $connectors = append $connectors (printf "http://%s-connectors-%s:8007" $name .name) }}{{ end }}
{{- $workers := list }}
{{- range .Values.worker.sets }}{{ $workers = append $workers (printf "http://%s-worker-%s:8004" $name .name) }}{{ end }}
{{- $scheme := ternary "https" "http" (ne .Values.gateway.tlsSecret "") }}
{{- $parts := dict "screen" (list (printf "%s://%s-gateway:8000" $scheme $name)) "worker" $workers "sink" (list (printf "http://%s-sink:8005" $name)) "monitor" (list (printf "http://%s-monitor:8006" $name)) "connectors" $connectors }}
{{- if include "quanyu.webhooksApart" . }}{{ $_ := set $parts "webhooks" (list (printf "http://%s-webhooks:8009" $name)) }}{{ end }}
{{- toJson $parts }}
{{- end }}

{{/* Environment of a part: what every part is told, and the way to its own secrets. */}}
{{- define "quanyu.env" -}}
{{- $v := .root.Values }}
- {name: QUANYU_HOME, value: /var/lib/quanyu}
- {name: QUANYU_PORT, value: "8000"}
- {name: QUANYU_BIND, value: 0.0.0.0}
- {name: QUANYU_CITY, value: {{ $v.city | quote }}}
- {name: QUANYU_ENVIRONMENT, value: {{ $v.environment | quote }}}
- {name: QUANYU_LOG_LEVEL, value: {{ $v.logLevel }}}
- {name: QUANYU_PARTS, value: {{ include "quanyu.parts" .root | quote }}}
- {name: QUANYU_KAFKA, value: {{ required "kafka.bootstrap: the bootstrap servers, host:port" $v.kafka.bootstrap | quote }}}
- {name: QUANYU_KAFKA_SECURITY_PROTOCOL, value: {{ $v.kafka.securityProtocol }}}
{{- if hasPrefix "SASL" $v.kafka.securityProtocol }}
- {name: QUANYU_KAFKA_SASL_MECHANISM, value: {{ $v.kafka.saslMechanism }}}
- {name: QUANYU_KAFKA_USER, value: {{ printf "quanyu-%s" .part }}}
- {name: QUANYU_KAFKA_PASSWORD_FILE, value: /etc/quanyu/kafka/password}
{{- end }}
{{- if $v.kafka.caSecret }}
- {name: QUANYU_KAFKA_CA_FILE, value: /etc/quanyu/kafka-ca/ca.crt}
{{- end }}
{{- if $v.kafka.clientCertificates }}
- {name: QUANYU_KAFKA_CERTIFICATE_FILE, value: /etc/quanyu/kafka/user.crt}
- {name: QUANYU_KAFKA_KEY_FILE, value: /etc/quanyu/kafka/user.key}
{{- end }}
- {name: QUANYU_CLICKHOUSE, value: {{ required "clickhouse.url: the server's HTTP address, http(s)://host:port" $v.clickhouse.url | quote }}}
- {name: QUANYU_CLICKHOUSE_DATABASE, value: {{ $v.clickhouse.database | quote }}}
{{- with $v.clickhouse.cluster }}
- {name: QUANYU_CLICKHOUSE_CLUSTER, value: {{ . | quote }}}
{{- end }}
{{- if has .part (list "sink" "gateway" "monitor" "admin") }}
{{- $own := get $v.clickhouse.users .part }}
{{- with $own | default $v.clickhouse.user }}
- {name: QUANYU_CLICKHOUSE_USER, value: {{ . | quote }}}
- {name: QUANYU_CLICKHOUSE_PASSWORD_FILE, value: /etc/quanyu/secrets/clickhouse-password}
{{- end }}
{{- end }}
{{- if $v.clickhouse.caSecret }}
- {name: QUANYU_CLICKHOUSE_CA_FILE, value: /etc/quanyu/clickhouse-ca/ca.crt}
{{- end }}
{{- with $v.schemaRegistry.url }}
- {name: QUANYU_SCHEMA_REGISTRY_URL, value: {{ . | quote }}}
{{- end }}
{{- with $v.traces.endpoint }}
- {name: QUANYU_OTLP_ENDPOINT, value: {{ . | quote }}}
- {name: QUANYU_TRACE_SHARE, value: {{ $v.traces.share | quote }}}
{{- end }}
{{- if has .part (list "worker" "gateway") }}
- {name: QUANYU_HASH_KEY_FILE, value: /etc/quanyu/secrets/hash-key}
{{- end }}
{{- if has .part (list "gateway" "monitor") }}
- {name: QUANYU_KEYS_FILE, value: /etc/quanyu/secrets/keys.json}
{{- if $v.gateway.tlsSecret }}
- {name: QUANYU_HTTP_CERTIFICATE_FILE, value: /etc/quanyu/http/tls.crt}
- {name: QUANYU_HTTP_KEY_FILE, value: /etc/quanyu/http/tls.key}
{{- end }}
{{- end }}
{{- if eq .part "gateway" }}
- {name: QUANYU_PEOPLE_FILE, value: /etc/quanyu/secrets/people.json}
{{- with $v.vision.url }}
- {name: QUANYU_VISION_URL, value: {{ . | quote }}}
- {name: QUANYU_VISION_MODEL, value: {{ $v.vision.model | quote }}}
- {name: QUANYU_VISION_KEY_FILE, value: /etc/quanyu/secrets/vision-key}
{{- end }}
{{- end }}
{{- if has .part (list "connectors" "webhooks" "gateway") }}
- {name: QUANYU_WEBHOOKS_FILE, value: /etc/quanyu/secrets/webhooks.json}
{{- end }}
{{- if eq .part "connectors" }}
- {name: QUANYU_SOURCES_FILE, value: /etc/quanyu/secrets/sources.json}
{{- with .channels }}
- {name: QUANYU_CHANNELS, value: {{ join "," . | quote }}}
{{- end }}
{{- end }}
{{- if has .part (list "worker" "sink" "connectors") }}
- name: QUANYU_INSTANCE # a static member of its group: the pod's own name
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
{{- end }}
{{- with $v.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "quanyu.volumeMounts" -}}
{{- $v := .root.Values }}
- {name: home, mountPath: /var/lib/quanyu}
- {name: tmp, mountPath: /tmp}
- {name: secrets, mountPath: /etc/quanyu/secrets, readOnly: true}
{{- if or (hasPrefix "SASL" $v.kafka.securityProtocol) $v.kafka.clientCertificates }}
- {name: kafka, mountPath: /etc/quanyu/kafka, readOnly: true}
{{- end }}
{{- if $v.kafka.caSecret }}
- {name: kafka-ca, mountPath: /etc/quanyu/kafka-ca, readOnly: true}
{{- end }}
{{- if $v.clickhouse.caSecret }}
- {name: clickhouse-ca, mountPath: /etc/quanyu/clickhouse-ca, readOnly: true}
{{- end }}
{{- if and $v.gateway.tlsSecret (has .part (list "gateway" "monitor")) }}
- {name: http, mountPath: /etc/quanyu/http, readOnly: true}
{{- end }}
{{- if eq .part "gateway" }}
- {name: media, mountPath: /var/lib/quanyu/media}
{{- end }}
{{- with $v.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "quanyu.volumes" -}}
{{- $v := .root.Values }}
{{- $secret := required "secrets.existingSecret: name of the Secret with hash-key" $v.secrets.existingSecret }}
{{- $optional := dict "gateway" (list "keys.json" "people.json" "webhooks.json" "vision-key") "monitor" (list "keys.json") "connectors" (list "sources.json" "webhooks.json") "webhooks" (list "webhooks.json") }}
{{- if ne .part "connectors" }}
- {name: home, emptyDir: {sizeLimit: 1Gi}}
{{- end }}
- {name: tmp, emptyDir: {sizeLimit: 1Gi}}
- name: secrets
  projected:
    defaultMode: 0440
    sources:
      {{- if has .part (list "worker" "gateway") }}
      - secret: {name: {{ $secret }}, items: [{key: hash-key, path: hash-key}]}
      {{- end }}
      {{- if and (has .part (list "sink" "gateway" "monitor" "admin")) (or $v.clickhouse.user (get $v.clickhouse.users .part)) }}
      - secret: {name: {{ $secret }}, items: [{key: {{ ternary (printf "clickhouse-password-%s" .part) "clickhouse-password" (hasKey $v.clickhouse.users .part) }}, path: clickhouse-password}]}
      {{- end }}
      {{- range (get $optional .part | default list) }}
      - secret: {name: {{ $secret }}, optional: true, items: [{key: {{ . }}, path: {{ . }}}]}
      {{- end }}
{{- if or (hasPrefix "SASL" $v.kafka.securityProtocol) $v.kafka.clientCertificates }}
- name: kafka
  projected:
    defaultMode: 0440
    sources:
      {{- if hasPrefix "SASL" $v.kafka.securityProtocol }}
      - secret: {name: {{ $v.kafka.passwordSecret | default (printf "quanyu-%s" .part) }}, items: [{key: {{ ternary (printf "kafka-%s" .part) "password" (ne $v.kafka.passwordSecret "") }}, path: password}]}
      {{- end }}
      {{- if $v.kafka.clientCertificates }}
      - secret: {name: quanyu-{{ .part }}, items: [{key: user.crt, path: user.crt}, {key: user.key, path: user.key}]}
      {{- end }}
{{- end }}
{{- with $v.kafka.caSecret }}
- {name: kafka-ca, secret: {secretName: {{ . }}, defaultMode: 0440, items: [{key: ca.crt, path: ca.crt}]}}
{{- end }}
{{- with $v.clickhouse.caSecret }}
- {name: clickhouse-ca, secret: {secretName: {{ . }}, defaultMode: 0440, items: [{key: ca.crt, path: ca.crt}]}}
{{- end }}
{{- if and $v.gateway.tlsSecret (has .part (list "gateway" "monitor")) }}
- {name: http, secret: {secretName: {{ $v.gateway.tlsSecret }}, defaultMode: 0440}}
{{- end }}
{{- if eq .part "gateway" }}
- {name: media, persistentVolumeClaim: {claimName: {{ $v.gateway.media.existingClaim | default (printf "%s-media" (include "quanyu.name" .root)) }}}}
{{- end }}
{{- with $v.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "quanyu.podSecurity" -}}
automountServiceAccountToken: false
# A Service named quanyu would set QUANYU_PORT in every pod.
enableServiceLinks: false
securityContext: {runAsNonRoot: true, runAsUser: 10001, runAsGroup: 10001, fsGroup: 10001, fsGroupChangePolicy: OnRootMismatch, seccompProfile: {type: RuntimeDefault}}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets: {{ toJson . }}
{{- end }}
{{- with .root.Values.nodeSelector }}
nodeSelector: {{ toJson . }}
{{- end }}
{{- with .root.Values.tolerations }}
tolerations: {{ toJson . }}
{{- end }}
{{- with .root.Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}

{{- define "quanyu.containerSecurity" -}}
securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, privileged: false, capabilities: {drop: [ALL]}}
{{- end }}

{{/* Pod of a part: (dict "root" $ "part" … "command" (list …) "resources" … "grace" seconds), "set" and "channels" may be there. */}}
{{- define "quanyu.pod" -}}
{{- $port := ternary "http" "metrics" (eq .part "gateway") }}
{{- $scheme := ternary "HTTPS" "HTTP" (and (eq .part "gateway") (ne .root.Values.gateway.tlsSecret "")) }}
metadata:
  labels:
    {{- include "quanyu.labels" . | nindent 4 }}
    quanyu/process: {{ ternary "screen" .part (eq .part "gateway") }}
    {{- with .root.Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .root.Values.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: {{ include "quanyu.serviceAccount" .root }}
  {{- include "quanyu.podSecurity" . | nindent 2 }}
  terminationGracePeriodSeconds: {{ .grace }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "quanyu.selector" . | nindent 10 }}
  containers:
    - name: {{ .part }}
      image: {{ include "quanyu.image" .root }}
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      args: {{ toJson .command }}
      env:
        {{- include "quanyu.env" . | nindent 8 }}
      ports:
        - {name: {{ $port }}, containerPort: {{ include "quanyu.port" . }}}
      # Ten minutes to read the city and the state of its partitions. Who is not ready by then is stuck in its start.
      startupProbe:
        httpGet: {path: /readyz, port: {{ $port }}, scheme: {{ $scheme }}}
        periodSeconds: 5
        timeoutSeconds: 3
        failureThreshold: 120
      # Started, it is stuck when its loop has not turned for a minute; waiting for Kafka or ClickHouse is not stuck.
      livenessProbe:
        httpGet: {path: /healthz, port: {{ $port }}, scheme: {{ $scheme }}}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 3
      readinessProbe:
        httpGet: {path: /readyz, port: {{ $port }}, scheme: {{ $scheme }}}
        periodSeconds: 5
        timeoutSeconds: 3
        failureThreshold: 2
      {{- if eq .part "gateway" }}
      # Requests that are still sent here while the endpoint is taken out are answered.
      lifecycle: {preStop: {exec: {command: [sleep, "5"]}}}
      {{- end }}
      resources:
        {{- toYaml .resources | nindent 8 }}
      {{- include "quanyu.containerSecurity" . | nindent 6 }}
      volumeMounts:
        {{- include "quanyu.volumeMounts" . | nindent 8 }}
  volumes:
    {{- include "quanyu.volumes" . | nindent 4 }}
{{- end }}

{{/* Headless service of a StatefulSet, or plain: name, part, set, headless. */}}
{{- define "quanyu.service" -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ .name }}
  labels:
    {{- include "quanyu.labels" . | nindent 4 }}
    quanyu/scrape: "true"
spec:
  {{- if .headless }}
  clusterIP: None
  {{- end }}
  selector:
    {{- include "quanyu.selector" . | nindent 4 }}
  ports:
    - {name: {{ ternary "http" "metrics" (eq .part "gateway") }}, port: {{ include "quanyu.port" . }}, targetPort: {{ ternary "http" "metrics" (eq .part "gateway") }}}
{{- end }}

{{- define "quanyu.budget" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ .name }}
  labels:
    {{- include "quanyu.labels" . | nindent 4 }}
spec:
  maxUnavailable: 1
  # One that is not ready holds up no drain of its node.
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "quanyu.selector" . | nindent 6 }}
{{- end }}

{{/* KEDA: name, kind, part, set, group, topic (may be empty), min, autoscaling. */}}
{{- define "quanyu.scaler" -}}
{{- $k := .root.Values.kafka }}
{{- if gt (int .autoscaling.maxReplicas) (int $k.partitions) }}{{ fail (printf "%s: autoscaling.maxReplicas %v is more than the %v partitions (kafka.partitions): the rest would have no work" .part .autoscaling.maxReplicas $k.partitions) }}{{ end }}
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  name: {{ .name }}
  labels:
    {{- include "quanyu.labels" . | nindent 4 }}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: StatefulSet, name: {{ .name }}}
  minReplicaCount: {{ .min }}
  maxReplicaCount: {{ .autoscaling.maxReplicas }}
  pollingInterval: 15
  advanced:
    horizontalPodAutoscalerConfig:
      behavior: # each change stops the whole group for a moment: up soon, down slowly
        scaleUp: {stabilizationWindowSeconds: 60, policies: [{type: Pods, value: 2, periodSeconds: 120}]}
        scaleDown: {stabilizationWindowSeconds: 900, policies: [{type: Pods, value: 1, periodSeconds: 300}]}
  triggers:
    {{- range .topics }}
    - type: kafka
      {{- with $.autoscaling.authenticationRef }}
      authenticationRef: {name: {{ . }}}
      {{- end }}
      metadata:
        bootstrapServers: {{ $k.bootstrap | quote }}
        consumerGroup: {{ $.group }}
        {{- with . }}
        topic: {{ . }}
        {{- end }}
        lagThreshold: {{ $.autoscaling.lagThreshold | quote }}
        excludePersistentLag: "true" # a partition that stands still is not mended by more workers
        {{- if hasPrefix "SASL" $k.securityProtocol }}
        sasl: {{ get (dict "PLAIN" "plaintext" "SCRAM-SHA-256" "scram_sha256" "SCRAM-SHA-512" "scram_sha512") $k.saslMechanism }}
        {{- end }}
        {{- if hasSuffix "SSL" $k.securityProtocol }}
        tls: enable
        {{- end }}
    {{- end }}
{{- end }}
