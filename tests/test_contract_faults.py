"""Each sentence of what a service promises has a fault that breaks it, and a test of the suite that turns red."""

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from questions import ROOT
from rendering import Renderer
from seen_red import chassis

FAULTS: list[dict[str, str]] = [
    fault
    for faults in tomllib.loads((ROOT / "tests" / "contract_faults.toml").read_text(encoding="utf-8")).values()
    for fault in faults
]
SUITE = ROOT / "template" / "tests" / "chassis"
# The files of the suite that hold the contract; the others are about what stands beside it, or about one option.
CONTRACT = (
    "bad_input", "errors", "health", "health_checks", "life_and_death", "limits", "logs", "rate_limit", "request_ids",
    "security", "settings", "settings_docs", "slow_operation",
)  # fmt: skip
# Both servers cut off the body of an answer to HEAD, whatever the chassis does.
BEYOND_US = {"chassis/test_bad_input.py::test_head_has_no_body_on_the_wire"}
# Faults are planted once, in one service or the other where both have the file, unless SEEN_RED=everywhere.
EVERYWHERE = os.environ.get("SEEN_RED") == "everywhere"


def test_every_test_of_the_contract_has_been_seen_red() -> None:
    """None of them stands there that no fault turns red."""
    named = {fault["red"].partition("[")[0] for fault in FAULTS}
    assert {test for name in CONTRACT for test in written_in(name)} - named == BEYOND_US


def written_in(name: str) -> list[str]:
    """List the tests of one file of the suite."""
    text = (SUITE / f"test_{name}.py").read_text(encoding="utf-8")
    return [f"chassis/test_{name}.py::{test}" for test in re.findall(r"^def (test_\w+)", text, re.MULTILINE)]


def test_every_error_has_been_seen_red() -> None:
    """Each row of the error table, by its `error_code`."""
    table = (SUITE / "test_errors.py").read_text(encoding="utf-8")
    codes = set(re.findall(r'^    \(.*, "([A-Z_]+)", \d{3}, ', table, re.MULTILINE))
    assert len(codes) == 13
    assert codes - {code for fault in FAULTS for code in re.findall(r"[A-Z_]{5,}", fault["says"])} == set()


@pytest.fixture(scope="session")
def services(renderer: Renderer, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A service of each framework."""
    folder = tmp_path_factory.mktemp("services")
    found = [renderer(folder / framework, {"framework": framework}).path for framework in ("fastapi", "flask")]
    for service in found:
        name_as_installed(service)
    return found


def name_as_installed(service: Path) -> None:
    """Leave what an installation leaves, so that the package has a version to be asked for; nothing else is needed."""
    name = chassis(service).parent.name
    notes = service / "src" / f"{name}-0.1.0.dist-info" / "METADATA"
    notes.parent.mkdir()
    notes.write_text(f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 0.1.0\n", encoding="utf-8")


def places(services: list[Path]) -> Iterator[tuple[dict[str, str], list[Path]]]:
    """Give each fault with the services that it is to be planted in."""
    for number, fault in enumerate(FAULTS):
        having = [service for service in services if (chassis(service) / fault["in"]).exists()]
        having = [service for service in having if service.name == fault.get("only", service.name)]
        assert having, f"no service has {fault['in']}"
        yield fault, having if EVERYWHERE else [having[number % len(having)]]


def test_every_fault_can_be_planted(services: list[Path]) -> None:
    """What it is to be planted in is there, and the test that is to turn red too."""
    for fault, having in places(services):
        for service in having:
            assert fault["is"] in (chassis(service) / fault["in"]).read_text(encoding="utf-8"), fault["says"]
        path, _, test = fault["red"].partition("[")[0].partition("::")
        assert f"def {test}(" in (having[0] / "tests" / path).read_text(encoding="utf-8"), fault["says"]


@pytest.mark.faults
def test_every_fault_turns_its_test_red(services: list[Path]) -> None:
    """And without a fault all of them are green."""
    green: dict[tuple[Path, str], list[str]] = {}
    jobs: list[dict[str, Any]] = []
    for fault, chosen in places(services):
        for service in chosen:
            jobs.append({"render": str(service), "fault": fault, "tests": [fault["red"]]})
            green.setdefault((service, fault["red"].partition("::")[0]), []).append(fault["red"])
    jobs += [
        {"render": str(service), "fault": {}, "tests": sorted(set(tests))} for (service, _), tests in green.items()
    ]
    command = [sys.executable, str(Path(__file__).with_name("seen_red.py"))]
    done = subprocess.run(command, input=json.dumps(jobs), capture_output=True, text=True, check=False)
    judged = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(judged) == len(jobs), done.stderr[-5000:]
    wrong = [job for job in judged if job["verdict"] != ("red" if job["fault"] else "passed")]
    assert not wrong, "\n\n".join(tell(job) for job in wrong)


def tell(job: dict[str, Any]) -> str:
    """Say what a fault, or its absence, has done instead."""
    where = Path(job["render"]).name
    if not job["fault"]:
        return f"{where}, without a fault: {job['verdict']}\n{job['said']}"
    return f"{where}: {job['fault']['says']}: {job['tests'][0]} {job['verdict']}\n{job['said'][-800:]}"
