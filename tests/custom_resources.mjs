// Validates custom resources, a JSON list on stdin, against the models of their projects. It prints the faults.
// The models check types and required fields, but allow unknown fields.
import { readFileSync } from "node:fs";
import { ExternalSecret } from "@kubernetes-models/external-secrets/external-secrets.io/v1";
import { HTTPRoute } from "@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1";
import { PrometheusRule, ServiceMonitor } from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1";

const models = { ExternalSecret, HTTPRoute, PrometheusRule, ServiceMonitor };

for (const manifest of JSON.parse(readFileSync(0, "utf8"))) {
  try {
    new models[manifest.kind](manifest).validate();
  } catch (error) {
    console.log(`${manifest.kind}: ${error.message}`);
    process.exitCode = 1;
  }
}
