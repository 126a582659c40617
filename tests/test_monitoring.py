"""The monitoring of a rendered service: its rules, its runbook and its configuration agree with each other."""

import re
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dashboards
import promql_parser
import pytest
import yaml
from alerts.faults import FAULTS, OF_SQLITE
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
    """The runbook has a section for each alert and for nothing else, and each section says what to do."""
    text = monitoring.parent.joinpath("docs/runbook.md").read_text(encoding="utf-8").partition("\n## Alerts\n")[2]
    sections = re.split(r"^### (\w+)\n", text, flags=re.MULTILINE)
    assert set(sections[1::2]) == names()
    for name, section in zip(sections[1::2], sections[2::2], strict=True):
        assert re.findall(r"\*\*(\w+)\.\*\*", section) == ["Meaning", "Impact", "Diagnosis", "Mitigation"], name
        assert "```promql" in section, name


def test_each_alert_is_complete() -> None:
    """Each alert has a known severity, a summary, a description and a link to its section of the runbook."""
    for alert in alerts():
        name, annotations = alert["alert"], alert["annotations"]
        assert alert["labels"]["severity"] in ("page", "ticket"), name
        assert annotations.keys() == {"summary", "description", "runbook_url"}, name
        assert annotations["runbook_url"] == "{{ $externalLabels.runbook }}#" + name.lower()


def test_each_alert_fires_in_the_tests_of_the_rules() -> None:
    files = [read_yaml(path) for path in MONITORING.glob("chassis/*tests.yml")]
    groups = [group for file in files for group in file["tests"]]
    samples = [sample for group in groups for test in group["promql_expr_test"] for sample in test["exp_samples"]]
    fired = {name for sample in samples for name in re.findall(r'alertname="(\w+)"', sample["labels"])}
    assert fired == names()


def test_each_alert_has_a_fault_and_each_fault_a_row() -> None:
    """If this fails, add a fault to tests/alerts/faults.py, or run `make alerts`."""
    faults = [*FAULTS, *OF_SQLITE]
    assert {name for fault in faults for name in fault.alerts} == names()
    rows = (ROOT / "docs/reliability.md").read_text(encoding="utf-8").splitlines()
    assert [fault.name for fault in faults if not any(row.startswith(f"| {fault.name} |") for row in rows)] == []


def test_documents_list_each_alert(monitoring: Path) -> None:
    """The tables have the severities and delays of the rules, and the rows of the dashboards."""
    text = monitoring.parent.joinpath("docs/monitoring.md").read_text(encoding="utf-8")
    listed = {row[0]: row[1:] for row in re.findall(r"^\| `(\w+)` \| ([\w, ]+) \| ([\w ]+) \|", text, re.MULTILINE)}
    assert listed.keys() == names()
    for alert in alerts():
        severity, delay = listed[alert["alert"]]
        assert alert["labels"]["severity"] in severity.split(", ")
        assert delay in (alert.get("for", "at once"), "see above")
    for name, rows in dashboards.DASHBOARDS.items():
        assert f"| {name.capitalize()} | {', '.join(rows).lower()}" in text


def metrics(expression: Any) -> set[str]:
    """Return the names of the series in a query."""
    if name := getattr(expression, "name", None):
        return {name}
    inside = [getattr(expression, child, None) for child in ("expr", "lhs", "rhs", "vector_selector", "param")]
    return {name for part in (*inside, *(getattr(expression, "args", None) or ())) if part for name in metrics(part)}


def test_queries_name_metrics_that_are_documented() -> None:
    """Each metric is in docs/options/prometheus.md, is recorded by a rule, or belongs to the monitoring itself."""
    pages = [ROOT / "template/docs/options/prometheus.md.jinja", *ROOT.glob("options/*/metrics.md")]
    tables = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    known = set(re.findall(r"^\| `(\w+)` \|", tables, re.MULTILINE)) | {
        rule["record"] for rule in rules() if "record" in rule
    }
    known |= {"ALERTS", "alertmanager_notifications_failed_total", "up"}
    known |= {"probe_ssl_earliest_cert_expiry", "probe_success"}
    parsed = (promql_parser.parse(query) for query in all_queries())
    named = {re.sub(r"_(bucket|count)$", "", name) for query in parsed for name in metrics(query)}
    assert {name for name in named if name not in known and f"{name}_count" not in known} == set()


def test_inhibition_names_alerts_that_there_are() -> None:
    text = (MONITORING / "alertmanager.yml").read_text(encoding="utf-8")
    named = {name for found in re.findall(r'alertname=~?"([\w|]+)"', text) for name in found.split("|")}
    assert named <= names()


def queries_of_runbook() -> list[str]:
    blocks = re.findall(r"```promql\n(.*?)```", RUNBOOK.read_text(encoding="utf-8"), re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def all_queries() -> list[str]:
    panels = [query.replace("$__rate_interval", "5m") for query in dashboards.queries()]
    return [*(rule["expr"] for rule in rules()), *queries_of_runbook(), *panels]


def test_queries_are_valid() -> None:
    for query in all_queries():
        promql_parser.parse(query)


def test_dashboards_are_those_of_the_script() -> None:
    """If this fails, run `make dashboards`."""
    found = {path.name: path.read_text(encoding="utf-8") for path in dashboards.FOLDER.iterdir()}
    assert found == dashboards.files()


def test_buckets_of_objectives_are_those_of_the_histogram() -> None:
    """A threshold between two buckets could not be measured."""
    source = ROOT / "template/src/{{package_name}}/chassis/monitoring/prometheus.py"
    tool = ROOT / "template/tools/slo_rules.py"
    buckets = re.search(r"^REQUEST_BUCKETS = \((.*)\)$", source.read_text(encoding="utf-8"), re.MULTILINE)
    offered = re.search(r"^BUCKETS = \((.*)\)$", tool.read_text(encoding="utf-8"), re.MULTILINE)
    assert buckets
    assert offered
    assert [float(value) for value in offered[1].split(",")] == [float(value) for value in buckets[1].split(",")]


def test_alarms_on_aws_have_the_objectives_of_the_service() -> None:
    """Terraform has its own variables, because an environment may differ."""
    text = (ROOT / "template/deploy/aws/service/variables.tf").read_text(encoding="utf-8")
    defaults = dict(re.findall(r'variable "(\w+)" \{[^}]*default += ([\d.]+)', text))
    names = ("availability_objective", "latency_objective", "latency_seconds")
    slo = yaml.safe_load((MONITORING / "slo.yml").read_text(encoding="utf-8"))
    objectives = [slo["availability"]["objective"], slo["latency"]["objective"], slo["latency"]["threshold_seconds"]]
    assert [float(defaults[name]) for name in names] == objectives


ROUTES = ("amtool", "config", "routes", "test", "--config.file=alertmanager.yml")
COMMANDS = [
    ("promtool", "check", "config", "prometheus.yml"),
    ("promtool", "test", "rules", "chassis/tests.yml", "chassis/long_tests.yml"),
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


def test_containers_of_the_service_can_read_the_backups(renders: list[Render]) -> None:
    """Without the folder, the service could not measure the age of the newest backup, and an alert would fire."""
    for render in renders:
        files = [render.path / name for name in ("compose.yaml", "compose.monitoring.yaml")]
        if "backup" in render.answers["features"] and files[1].exists():
            apps = [yaml.safe_load(file.read_text(encoding="utf-8"))["services"]["app"] for file in files]
            volumes = [volume for app in apps for volume in app.get("volumes", [])]
            assert [volume for volume in volumes if volume.startswith("backups:/backups")], render.answers


def test_monitoring_is_rendered_with_prometheus_only(renders: list[Render]) -> None:
    """The containers also need Docker Compose."""
    for render in renders:
        files = set(render.files())
        chosen = "prometheus" in render.answers["monitoring"]
        assert ("monitoring/prometheus.yml" in files) == chosen
        assert ("docs/monitoring.md" in files) == chosen
        assert ("compose.monitoring.yaml" in files) == (chosen and "compose" in render.answers["deployment"])


class Events:
    """Stands in for Locust, whose events call the listeners of tools/load_test.py."""

    def __init__(self) -> None:
        self.request = self.user_error = self.quitting = self.init = self.init_command_line_parser = self

    def add_listener(self, listener: Callable[..., None]) -> Callable[..., None]:
        return listener


@pytest.fixture
def load_test(monitoring: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The functions of tools/load_test.py."""
    monkeypatch.setitem(sys.modules, "locust", SimpleNamespace(events=Events()))
    monkeypatch.syspath_prepend(monitoring.parent / "tools")
    monkeypatch.delitem(sys.modules, "slo_rules", raising=False)
    return runpy.run_path(str(monitoring.parent / "tools/load_test.py"))


def ended(sent: int, failed: int, most_per_minute: int | None = None) -> SimpleNamespace:
    """The environment of Locust at the end of a load test."""
    return SimpleNamespace(
        stats=SimpleNamespace(total=SimpleNamespace(num_requests=sent, num_failures=failed, fail_ratio=failed / sent)),
        parsed_options=SimpleNamespace(most_per_minute=most_per_minute),
    )


@pytest.mark.parametrize(
    ("ok", "slow", "rejected", "verdicts", "code"),
    [
        (1000, 0, 0, ["met latency"], 0),
        (1000, 0, 1, ["met latency", "met rate limit"], 0),
        (990, 60, 0, ["MISSED latency"], 1),
        (2, 8, 990, ["MISSED latency", "MISSED rate limit"], 1),
        (0, 0, 1000, ["MISSED latency", "MISSED rate limit"], 1),
    ],
)
def test_load_test_in_which_requests_are_rejected_measures_the_others(
    load_test: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
    ok: int,
    slow: int,
    rejected: int,
    verdicts: list[str],
    code: int,
) -> None:
    """A response with 429 is fast, and must not improve the latency. More than 1 % of them fail the test."""
    for count, duration, status in ((ok, 20, 200), (slow, 900, 200), (rejected, 1, 429)):
        error = None if status == 200 else RuntimeError("Too Many Requests")
        for _ in range(count):
            load_test["record"](
                name="/", response_time=duration, exception=error, response=SimpleNamespace(status_code=status)
            )
    environment = ended(ok + slow + rejected, rejected)
    load_test["evaluate"](environment)
    printed = [re.sub(" +", " ", line.partition(":")[0]) for line in capsys.readouterr().out.splitlines()]
    assert (printed[1:], environment.process_exit_code) == (verdicts, code)


def test_load_test_with_an_invalid_objective_does_not_start(
    load_test: dict[str, Any], monitoring: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A soak test would otherwise fail after an hour."""
    document = (monitoring / "slo.yml").read_text(encoding="utf-8").replace("objective: 95", "objective: 105")
    (tmp_path / "slo.yml").write_text(document, encoding="utf-8")
    monkeypatch.setattr(sys.modules["slo_rules"], "SOURCE", tmp_path / "slo.yml")
    with pytest.raises(SystemExit, match=r"^monitoring/slo.yml: latency.objective: invalid value 105"):
        load_test["prepare"](SimpleNamespace(user_classes=[]))


@pytest.mark.parametrize(("failed", "code"), [(0, 1), (1, 0)])
def test_load_test_fails_if_a_task_raises_an_exception_without_a_failed_request(
    load_test: dict[str, Any], capsys: pytest.CaptureFixture[str], failed: int, code: int
) -> None:
    """A failed request can also cause an exception, for example because its response lacks an id."""
    for _ in range(1000):
        load_test["record"](response_time=20, exception=None, response=SimpleNamespace(status_code=200))
    load_test["record_exception"](user_instance=None, exception=KeyError("id"), tb=None)
    environment = ended(1000, failed)
    load_test["evaluate"](environment)
    assert ("MISSED scenario" in capsys.readouterr().out, environment.process_exit_code) == (bool(code), code)


@pytest.mark.parametrize(
    ("failed", "most_per_minute", "verdict"),
    [(1, 80, "met"), (2, 80, "MISSED"), (1, None, "MISSED")],
)
def test_load_test_with_a_limited_rate_tolerates_one_failure(
    load_test: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
    failed: int,
    most_per_minute: int | None,
    verdict: str,
) -> None:
    """Such a test sends about 110 requests. A single network failure must not roll back production."""
    for _ in range(110 - failed):
        load_test["record"](response_time=20, exception=None, response=SimpleNamespace(status_code=200))
    environment = ended(110, failed, most_per_minute)
    load_test["evaluate"](environment)
    assert capsys.readouterr().out.split()[0] == verdict
    assert environment.process_exit_code == (verdict == "MISSED")
