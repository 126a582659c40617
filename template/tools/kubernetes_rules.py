"""Writes deploy/kubernetes/rules/rules.yaml, for the Prometheus Operator, from the rules in monitoring/.

The Prometheus of a cluster scrapes many services. So each selector gets the job of this service, which
deploy/kubernetes/components/prometheus/monitor.yaml sets. The rules about the monitoring itself are left out.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
MONITORING = ROOT / "monitoring"
FOLDER = ROOT / "deploy" / "kubernetes"
TARGET = FOLDER / "rules" / "rules.yaml"
HEADER = """\
# Written by `make kubernetes-rules` from monitoring/chassis/ and monitoring/rules/. Do not edit.
# yamllint disable rule:line-length
"""

_TEXT = r'"(?:\\.|[^"\\])*+"' + r"|'(?:\\.|[^'\\])*+'|`[^`]*+`"
# Everything in a query that may look like the name of a series but is none, then a selector.
_SELECTOR = re.compile(
    rf"(?P<other>{_TEXT}|\[[^]]*]|\d[\w.]*+|\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)"
    r"|\b(?:and|or|unless|bool|offset|inf|nan|group_left|group_right)\b|[a-zA-Z_:][\w:]*+(?=\s*\(|\s+(?:by|without)\b))"
    rf"|(?P<name>[a-zA-Z_:][\w:]*+)?(?P<matchers>\{{(?:{_TEXT}|[^}}\"'`])*+\}})?",
    re.IGNORECASE,
)


def scoped(query: str, job: str) -> str:
    """Return a query whose selectors match one job only. A selector that names another job is unchanged."""

    def scope(found: re.Match[str]) -> str:
        if found["other"] or not found[0]:
            return found[0]
        matchers = re.sub(r'job!="monitoring",?', "", (found["matchers"] or "{}")[1:-1])
        if not re.search(r"(^|,)\s*job\s*[=!]", matchers):
            matchers = f"{job},{matchers}" if matchers else job
        return f"{found['name'] or ''}{{{matchers}}}"

    return _SELECTOR.sub(scope, " ".join(query.split()))


def groups(job: str, runbook: str) -> Iterator[dict[str, Any]]:
    """Yield the groups of all rules, for one job and with links to its runbook."""
    for path in [*sorted(MONITORING.glob("chassis/*.yml")), *sorted(MONITORING.glob("rules/*.yml"))]:
        for group in yaml.safe_load(path.read_text(encoding="utf-8")).get("groups", ()):
            rules = [rule for rule in group["rules"] if 'job="monitoring"' not in rule["expr"]]
            if rules and group["name"] != "monitoring":
                yield {**group, "rules": [_rule(rule, job, runbook) for rule in rules]}


def _rule(rule: dict[str, Any], job: str, runbook: str) -> dict[str, Any]:
    annotations = {
        name: text.replace("{{ $externalLabels.runbook }}", runbook)
        for name, text in rule.get("annotations", {}).items()
    }
    return {**rule, "expr": scoped(rule["expr"], job)} | ({"annotations": annotations} if annotations else {})


def resource(service: str, runbook: str) -> str:
    """Return the PrometheusRule of a service."""
    rules = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": service, "labels": {"app.kubernetes.io/name": service}},
        "spec": {"groups": list(groups(f'job=~".+/{service}"', runbook))},
    }
    return HEADER + yaml.safe_dump(rules, width=10_000, sort_keys=False, allow_unicode=True)


def main() -> None:
    monitor = (FOLDER / "components" / "prometheus" / "monitor.yaml").read_text(encoding="utf-8")
    prometheus = yaml.safe_load((MONITORING / "prometheus.yml").read_text(encoding="utf-8"))
    service = yaml.safe_load(monitor.partition("\n---\n")[0])["spec"]["selector"]["app.kubernetes.io/name"]
    TARGET.write_text(resource(service, prometheus["global"]["external_labels"]["runbook"]), encoding="utf-8")


if __name__ == "__main__":
    main()
