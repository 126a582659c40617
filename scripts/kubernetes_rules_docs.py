"""Generates the PrometheusRule of a rendered service from its rules, as `make kubernetes-rules` does in the service.

With `--check` the script writes nothing and fails if the file has drifted.
"""

import argparse
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    if not parser.parse_args().check:
        TARGET.write_text(text(), encoding="utf-8")
    elif TARGET.read_text(encoding="utf-8") != text():
        raise SystemExit(f"{TARGET.relative_to(ROOT)} has drifted: run `make docs`")


if __name__ == "__main__":
    main()
