"""The template's own workflows and scripts are what their linters expect, and CI runs every named stack."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml
from environments import requirements
from linters import LINTERS, shell_steps
from questions import ROOT
from rendering import Renderer
from suites import STACKS, answers

# Files that run on a CI machine, without the code.
PATHS = [*(ROOT / ".github").rglob("*.yml"), ROOT / ".ci/run", *(ROOT / "tests/containers").glob("*.sh")]
FILES = {path.relative_to(ROOT).as_posix(): path.read_bytes() for path in sorted(PATHS)}
WORKFLOWS = LINTERS["workflows"].files(FILES)


@pytest.mark.parametrize("name", [name for name, linter in LINTERS.items() if linter.files(FILES)])
def test_the_linter_finds_nothing(name: str, tool: Callable[[str], str]) -> None:
    """The template is held to what its renders are held to."""
    assert not LINTERS[name].lint(tool, ROOT, LINTERS[name].files(FILES))


def test_every_linter_of_workflows_is_run() -> None:
    """There is a workflow and a script, so that no linter passes for want of a file."""
    found = {name for name, linter in LINTERS.items() if linter.files(FILES)}
    assert found == {"workflows", "zizmor", "actionlint", "shellcheck", "yamllint"}


def test_the_shell_of_workflows_is_clean(tool: Callable[[str], str], tmp_path: Path) -> None:
    """Every `run:` step passes shellcheck."""
    steps = [step for path in WORKFLOWS for step in shell_steps(FILES[path])]
    files = [f"{number}.sh" for number, _ in enumerate(steps)]
    for name, step in zip(files, steps, strict=True):
        (tmp_path / name).write_text(step, encoding="utf-8")
    assert files
    assert not LINTERS["shellcheck"].lint(tool, tmp_path, files)


@pytest.fixture(params=["ci", "canary"])
def jobs(request: pytest.FixtureRequest) -> Any:
    return yaml.safe_load(FILES[f".github/workflows/{request.param}.yml"])["jobs"]


def test_each_job_installs_what_its_commands_need_and_each_command_has_one() -> None:
    """`make bench` and `make versions` write pages, so a maintainer runs them. A runner of GitHub has no Terraform."""
    everything = [job for path in WORKFLOWS for job in yaml.safe_load(FILES[path])["jobs"].values()]
    steps = {"\n".join(str(step.get("run", step.get("uses"))) for step in job["steps"]) for job in everything}
    for name in ("alerts", "aws", "chaos", "cluster", "deployments", "faults", "upgrades"):
        assert any(re.search(rf"make {name}\b|-m {name}\b", text) for text in steps), name
    run_terraform = [text for text in steps if re.search(r"\.ci/run|make aws", text)]
    assert len(run_terraform) == 2
    assert all("hashicorp/setup-terraform@" in text for text in run_terraform)


def named_stacks(jobs: Any, root: Path) -> Any:
    """Return the output of the step that lists the stacks, in a checkout at `root`."""
    (step,) = (step for step in jobs["stacks"]["steps"] if step.get("id") == "list")
    output = root / "output"
    run = ["bash", "-euo", "pipefail", "-c", step["run"]]
    subprocess.run(run, cwd=root, env=os.environ | {"GITHUB_OUTPUT": str(output)}, check=True)
    name, _, value = output.read_text(encoding="utf-8").strip().partition("=")
    assert name == "names"
    return json.loads(value)


def test_workflow_runs_every_named_stack(jobs: Any, tmp_path: Path) -> None:
    """The matrix contains each file of tests/answers, passed from the job that lists them to the one that runs them."""
    answers = shutil.copytree(ROOT / "tests/answers", tmp_path / "tests/answers")
    assert named_stacks(jobs, tmp_path) == sorted(path.stem for path in answers.glob("*.yml"))
    assert jobs["stacks"]["outputs"]["names"] == "${{ steps.list.outputs.names }}"
    (every,) = (job for job in jobs.values() if job.get("needs") == "stacks")
    assert every["strategy"]["matrix"]["stack"] == "${{ fromJSON(needs.stacks.outputs.names) }}"


def test_canary_without_bounds_covers_every_bound(renderer: Renderer, tmp_path: Path) -> None:
    """Each requirement with an upper bound is in a stack that is also run without it."""
    job = yaml.safe_load(FILES[".github/workflows/canary.yml"])["jobs"]["unbounded"]
    covered = bounded(renderer, tmp_path / "covered", job["strategy"]["matrix"]["stack"])
    assert covered == bounded(renderer, tmp_path / "all", STACKS)
    assert "uvicorn" in covered


def bounded(renderer: Renderer, folder: Path, stacks: Iterable[str]) -> set[str]:
    """Return the names of the libraries for which these stacks have an upper bound."""
    services = (renderer(folder / stack, answers(stack)).path for stack in stacks)
    return {re.split(r"\W", name)[0] for service in services for name in requirements(service) if ",<" in name}


def test_a_new_stack_is_run_without_a_word(jobs: Any, tmp_path: Path) -> None:
    """No list of names is kept: a file more is a job more."""
    (tmp_path / "tests/answers").mkdir(parents=True)
    for name in ("django-sqlite.yml", "litestar-none.yml", "notes.txt"):
        (tmp_path / "tests/answers" / name).touch()
    assert named_stacks(jobs, tmp_path) == ["django-sqlite", "litestar-none"]
