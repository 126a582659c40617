"""Generates the PrometheusRule of a rendered service from its rules, as `make kubernetes-rules` does in the service."""

import runpy
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "template/deploy/kubernetes/rules/rules.yaml.jinja"
SERVICE, RUNBOOK = "SERVICE-NAME", "RUNBOOK-PAGE"


def text() -> str:
    """Return the template. The rules themselves use the braces of Jinja."""
    rules = runpy.run_path(str(ROOT / "template/tools/kubernetes_rules.py"))["resource"](SERVICE, RUNBOOK)
    filters = f'replace("{SERVICE}", service_name) | replace("{RUNBOOK}", runbook)'
    return f"{{% filter {filters} %}}\n{{% raw -%}}\n{rules}{{% endraw %}}\n{{% endfilter %}}\n"


if __name__ == "__main__":
    TARGET.write_text(text(), encoding="utf-8")
