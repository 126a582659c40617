"""Rewrites manifests on stdin for an API server 1.20, and omits custom resources."""

import sys
from typing import Any

import yaml

VERSIONS = {
    "HorizontalPodAutoscaler": "autoscaling/v2beta2",
    "PodDisruptionBudget": "policy/v1beta1",
    "CronJob": "batch/v1beta1",
}
BUILT_IN = {"apps/v1", "autoscaling/v2", "batch/v1", "networking.k8s.io/v1", "policy/v1", "v1"}


def rewritten(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return an object in the version that the server knows."""
    manifest["spec"] = {name: value for name, value in manifest.get("spec", {}).items() if name != "timeZone"}
    manifest["apiVersion"] = VERSIONS.get(manifest["kind"], manifest["apiVersion"])
    return {name: value for name, value in manifest.items() if value}


if __name__ == "__main__":
    known = [rewritten(found) for found in yaml.safe_load_all(sys.stdin) if found["apiVersion"] in BUILT_IN]
    yaml.safe_dump_all(known, sys.stdout)
