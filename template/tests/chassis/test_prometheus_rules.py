"""The rules for Prometheus are generated from the objectives, and promtool and amtool accept all of them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Changes in slo.yml, and the message of the tool about each.
INVALID = [
    ("objective: 99.9\n", "objective: 100\n", "availability.objective: invalid value 100; use a number from 93.1 to"),
    ("objective: 99.9\n", "objective: high\n", "availability.objective: invalid value 'high'; use a number from"),
    ("objective: 95\n", "objective: 90\n", "latency.objective: invalid value 90; use a number from 93.1 to 99.999"),
    ("seconds: 0.3\n", "seconds: 0.4\n", "latency.threshold_seconds: 0.4 is not one of the buckets (0.005, "),
    ("days: 30\n", "days: 365\n", "window_days: invalid value 365; use a number from 7 to 90"),
    ("latency:\n", "latencies:\n", "latencies: unknown; use window_days, availability and latency"),
    ("days: 30\n", "days: 30.5\n", "window_days: 30.5 is not a whole number"),
    ("days: 30\n", "days: [\n", "while parsing"),
]


# The objectives of a new service, for tests that expect certain values. monitoring/slo.yml may have others.
OBJECTIVES = """\
window_days: 30
availability:
  objective: 99.9
latency:
  objective: 95
  threshold_seconds: 0.3
"""


def slo(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the tool of `make slo` in a copy of the service."""
    command = [sys.executable, str(folder / "tools" / "slo_rules.py")]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for name in ("monitoring", "tools"):
        shutil.copytree(ROOT / name, tmp_path / name)
    return tmp_path


def test_rules_are_those_of_the_objectives(copy: Path) -> None:
    """If this fails, run `make slo`, which writes monitoring/rules/slo.yml."""
    done = slo(copy)
    assert (done.returncode, done.stderr) == (0, "")
    written, rules = ((folder / "monitoring/rules/slo.yml").read_text("utf-8") for folder in (copy, ROOT))
    assert written == rules, "run `make slo`"


@pytest.mark.parametrize(("old", "new", "sentence"), INVALID)
def test_invalid_objective_is_rejected_with_one_sentence(copy: Path, old: str, new: str, sentence: str) -> None:
    (copy / "monitoring" / "slo.yml").write_text(OBJECTIVES.replace(old, new), "utf-8")
    done = slo(copy)
    assert done.returncode == 1
    assert done.stderr.startswith(f"monitoring/slo.yml: {sentence}")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("document", [b"- availability\n", b"\xff\n"], ids=["a list", "not UTF-8"])
def test_document_without_objectives_is_rejected_with_one_sentence(copy: Path, document: bytes) -> None:
    (copy / "monitoring" / "slo.yml").write_bytes(document)
    done = slo(copy)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("monitoring/slo.yml: ")


def test_missing_objectives_are_rejected_with_one_sentence(copy: Path) -> None:
    (copy / "monitoring" / "slo.yml").unlink()
    done = slo(copy)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "slo.yml" in done.stderr


def run(*command: str, folder: Path = ROOT / "monitoring") -> Any:
    """Run a command of Prometheus in the folder monitoring/. If it is not installed, the test is skipped."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed: the rules of Prometheus are not checked")
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def test_promtool_accepts_configuration_and_rules() -> None:
    run("promtool", "check", "config", "prometheus.yml")


def test_promtool_passes_the_tests_of_the_rules(copy: Path) -> None:
    """Every alert fires above its limit, and none below it."""
    (copy / "monitoring" / "slo.yml").write_text(OBJECTIVES, "utf-8")
    assert slo(copy).returncode == 0
    run("promtool", "test", "rules", "chassis/tests.yml", "chassis/long_tests.yml", folder=copy / "monitoring")


def test_amtool_accepts_the_configuration() -> None:
    """This also passes with your receivers, as long as each severity has one."""
    run("amtool", "check-config", "alertmanager.yml")
    for severity in ("page", "ticket"):
        assert run("amtool", "config", "routes", "test", "--config.file=alertmanager.yml", f"severity={severity}")
