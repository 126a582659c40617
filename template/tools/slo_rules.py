"""Writes `monitoring/rules/slo.yml` from `monitoring/slo.yml`: `make slo`.

The alerts combine several windows and burn rates (https://sre.google/workbook/alerting-on-slos/, section 6). The burn
rate says how many times faster than allowed the error budget is spent.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).resolve().parents[1] / "monitoring"
SOURCE = FOLDER / "slo.yml"
TARGET = FOLDER / "rules" / "slo.yml"
DURATION = "http_server_request_duration_seconds"
# The buckets of this histogram, as in chassis/monitoring/prometheus.py.
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.3, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
# An alert fires if this share of the budget was spent within the long window, at a rate that the short one confirms.
Pair = tuple[float, str, int, str]  # share, long window, its hours, short window
SEVERITIES: dict[str, list[Pair]] = {
    "page": [(0.02, "1h", 1, "5m"), (0.05, "6h", 6, "30m")],
    "ticket": [(0.10, "1d", 24, "2h"), (0.10, "3d", 72, "6h")],
}
NEXT = "\n          "  # the next line of an expression
HEAD = """\
# Written by `make slo` from ../slo.yml. Do not edit.
groups:
"""
GROUP = """\
  - name: slo-{slo}
    rules:
"""
RECORD = """\
      - record: {name}
        expr: >-
          {expr}
        labels: {{slo: {slo}}}
"""
ALERT = """\
      - alert: {alert}
        expr: |
          {expr}
        labels: {{slo: {slo}, severity: {severity}}}
        annotations:
          summary: "{{{{ $labels.job }}}}: too many requests {symptom}"
          description: >-
            {{{{ $value | humanizePercentage }}}} of the requests {symptom}, so the {slo} budget
            will not last {days} days. {step}
          runbook_url: "{{{{ $externalLabels.runbook }}}}#{anchor}"
"""


class InvalidObjectiveError(Exception):
    """An invalid objective. The text is one sentence that names the setting and the remedy."""


def number(document: Any, name: str, low: float, high: float) -> float:
    """Return the number at a dotted name, which must be between two limits.

    Raises:
        InvalidObjectiveError: The value is missing, is not a number, or is outside of the limits.
    """
    found = document
    for key in name.split("."):
        found = found.get(key) if isinstance(found, dict) else None
    if isinstance(found, bool) or not isinstance(found, int | float) or not low <= found <= high:
        raise InvalidObjectiveError(f"{name}: invalid value {found!r}; use a number from {low:g} to {high:g}")
    return float(found)


def rules(document: Any) -> str:
    """Return the text of the rules.

    Raises:
        InvalidObjectiveError: The document is not a valid set of objectives.
    """
    unknown = set(document) - {"window_days", "availability", "latency"} if isinstance(document, dict) else [document]
    if unknown:
        raise InvalidObjectiveError(f"{min(map(str, unknown))}: unknown; use window_days, availability and latency")
    days = number(document, "window_days", 7, 90)
    if not days.is_integer():  # Prometheus has no such durations
        raise InvalidObjectiveError(f"window_days: {days:g} is not a whole number")
    # The lowest objective. With a larger budget, even a complete outage would not spend it fast enough for a page.
    fastest = max(_factor(pair, days) for pairs in SEVERITIES.values() for pair in pairs)
    lowest = round(100 * (1 - 1 / fastest) + 0.05, 1)
    threshold = number(document, "latency.threshold_seconds", BUCKETS[0], BUCKETS[-1])
    if threshold not in BUCKETS:
        raise InvalidObjectiveError(f"latency.threshold_seconds: {threshold:g} is not one of the buckets {BUCKETS}")
    total = f"sum by (job) (rate({DURATION}_count[%s]))"
    failed = f'sum by (job) (rate({DURATION}_count{{http_response_status_code=~"5.."}}[%s]))'
    fast = f'sum by (job) (rate({DURATION}_bucket{{le="{threshold}"}}[%s]))'
    # If there was no error yet, the series of errors is missing, and counts as zero.
    errors = {
        "availability": f"({failed}{NEXT}or 0 * {total}){NEXT}/ {total}",
        "latency": f"1 - {fast}{NEXT}/ {total}",
    }
    texts = {
        "availability": ("fail with 5xx", "Find the failing routes and their error_id in the log."),
        "latency": (f"take longer than {threshold:g} s", "Find the slow routes, then their dependency."),
    }
    text = HEAD
    for slo, ratio in errors.items():
        objective = number(document, f"{slo}.objective", lowest, 99.999)
        budget = round(1 - objective / 100, 7)
        text += GROUP.format(slo=slo) + "".join(_records(slo, ratio, budget, days))
        text += "".join(_alerts(slo, budget, days, *texts[slo]))
    return text


def _factor(pair: Pair, days: float) -> float:
    """Return the burn rate that spends this share of the budget within the long window."""
    share, _, hours, _ = pair
    return round(share * days * 24 / hours, 2)


def _records(slo: str, ratio: str, budget: float, days: float) -> Iterator[str]:
    for window in WINDOWS:
        expr = ratio.replace("%s", window)
        yield RECORD.format(slo=slo, name=f"slo:error:ratio_rate{window}", expr=expr)
    selected = f'{{slo="{slo}"}}'
    period = f"{days:g}d"
    yield RECORD.format(slo=slo, name="slo:error_budget:ratio", expr=f"vector({budget:g})")
    # The recorded rates are weighted by the number of requests. A query over 30 days of the histogram would be slow.
    requests = f"job:http_requests:rate5m[{period}]"
    spent = f"slo:errors:rate5m{selected}[{period}]"
    rate = f"slo:error:ratio_rate5m{selected} * on (job) job:http_requests:rate5m >= 0"
    yield RECORD.format(slo=slo, name="slo:errors:rate5m", expr=rate)
    left = f"1 - sum by (job) (sum_over_time({spent})){NEXT}/ sum by (job) (sum_over_time({requests})) / {budget:g}"
    yield RECORD.format(slo=slo, name="slo:error_budget_left:ratio", expr=left)
    burn = f"slo:error:ratio_rate1h{selected} / {budget:g}"
    yield RECORD.format(slo=slo, name="slo:burn_rate:ratio_rate1h", expr=burn)


def _alerts(slo: str, budget: float, days: float, symptom: str, step: str) -> Iterator[str]:
    name = f"{slo.capitalize()}BudgetBurn"
    for severity, pairs in SEVERITIES.items():
        parts = []
        for pair in pairs:
            _, long, _, short = pair
            limit = f'{{slo="{slo}"}} > {_factor(pair, days):g} * {budget:g}'
            parts.append(f"(slo:error:ratio_rate{long}{limit}{NEXT}and slo:error:ratio_rate{short}{limit})")
        yield ALERT.format(
            alert=name,
            expr=f"{NEXT}or ".join(parts),
            slo=slo,
            severity=severity,
            anchor=name.lower(),
            symptom=symptom,
            days=f"{days:g}",
            step=step,
        )


def load_objectives_and_rules() -> tuple[Any, str]:
    """Return the objectives and their rules. Exit with one sentence if an objective is invalid."""
    try:
        document = yaml.safe_load(SOURCE.read_text(encoding="utf-8"))
        return document, rules(document)
    except (InvalidObjectiveError, yaml.YAMLError, OSError, UnicodeError) as error:
        raise SystemExit(f"monitoring/slo.yml: {' '.join(str(error).split())}") from None


def main() -> None:
    _, text = load_objectives_and_rules()
    TARGET.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
