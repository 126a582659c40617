"""The monitoring of a rendered service: its rules, its runbook and its configuration agree with each other."""

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
from questions import ROOT, read_yaml
from rendering import Render, Renderer

MONITORING = ROOT / "template" / "monitoring"
ALERTS = MONITORING / "chassis" / "alerts.yml"
RULES = [ALERTS, MONITORING / "chassis" / "recording.yml", MONITORING / "rules" / "slo.yml"]
RUNBOOK = ROOT / "options" / "prometheus" / "alerts.md"


def rules() -> Iterator[dict[str, Any]]:
    """Return every rule that is rendered."""
    for path in RULES:
        for group in read_yaml(path)["groups"]:
            yield from group["rules"]


def alerts() -> list[dict[str, Any]]:
    return [rule for rule in rules() if "alert" in rule]


def names() -> set[str]:
    return {alert["alert"] for alert in alerts()}


@pytest.fixture
def monitoring(renderer: Renderer, tmp_path: Path) -> Path:
    return renderer(tmp_path / "service").path / "monitoring"


def test_each_alert_has_a_section_in_the_runbook(monitoring: Path) -> None:
    """The sections are those of the alerts, and each says what to do."""
    text = monitoring.parent.joinpath("docs/runbook.md").read_text(encoding="utf-8").partition("\n## Alerts\n")[2]
    sections = re.split(r"^### (\w+)\n", text, flags=re.MULTILINE)
    assert set(sections[1::2]) == names()
    for name, section in zip(sections[1::2], sections[2::2], strict=True):
        assert re.findall(r"\*\*(\w+)\.\*\*", section) == ["Meaning", "Impact", "Diagnosis", "Mitigation"], name
        assert "```promql" in section, name


def test_each_alert_is_complete() -> None:
    """It has a known severity, a summary, a description and a link to its section of the runbook."""
    for alert in alerts():
        name, annotations = alert["alert"], alert["annotations"]
        assert alert["labels"]["severity"] in ("page", "ticket"), name
        assert annotations.keys() == {"summary", "description", "runbook_url"}, name
        assert annotations["runbook_url"] == "{{ $externalLabels.runbook }}#" + name.lower()


def test_each_alert_fires_in_the_tests_of_the_rules() -> None:
    groups = read_yaml(MONITORING / "chassis" / "tests.yml")["tests"]
    samples = [sample for group in groups for test in group["promql_expr_test"] for sample in test["exp_samples"]]
    fired = {name for sample in samples for name in re.findall(r'alertname="(\w+)"', sample["labels"])}
    assert fired == names()


def test_inhibition_names_alerts_that_there_are() -> None:
    text = (MONITORING / "alertmanager.yml").read_text(encoding="utf-8")
    named = {name for found in re.findall(r'alertname=~?"([\w|]+)"', text) for name in found.split("|")}
    assert named <= names()


def queries_of_runbook() -> list[str]:
    blocks = re.findall(r"```promql\n(.*?)```", RUNBOOK.read_text(encoding="utf-8"), re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def test_queries_are_valid() -> None:
    for query in [*(rule["expr"] for rule in rules()), *queries_of_runbook()]:
        promql_parser.parse(query)


ROUTES = ("amtool", "config", "routes", "test", "--config.file=alertmanager.yml")
COMMANDS = [
    ("promtool", "check", "config", "prometheus.yml"),
    ("promtool", "test", "rules", "chassis/tests.yml"),
    ("amtool", "check-config", "alertmanager.yml"),
    (*ROUTES, "--verify.receivers=pages", "severity=page"),
    (*ROUTES, "--verify.receivers=tickets", "severity=ticket"),
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: "-".join(command[:3]))
def test_prometheus_accepts_the_monitoring(
    command: tuple[str, ...], tool: Callable[[str], str], monitoring: Path
) -> None:
    run = [tool(command[0]), *command[1:]]
    done = subprocess.run(run, cwd=monitoring, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_monitoring_is_rendered_with_prometheus_only(renders: list[Render]) -> None:
    """The containers also need Docker Compose."""
    for render in renders:
        files = set(render.files())
        chosen = "prometheus" in render.answers["monitoring"]
        assert ("monitoring/prometheus.yml" in files) == chosen
        assert ("compose.monitoring.yaml" in files) == (chosen and "compose" in render.answers["deployment"])
