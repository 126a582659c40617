"""The commands with which people look into the template: `make render` and `make where`."""

import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from questions import ROOT, read_yaml
from rendering import Render

Make = Callable[..., "subprocess.CompletedProcess[str]"]
STACKS = sorted(path.stem for path in (ROOT / "tests/answers").glob("*.yml"))
MAIN = "src/{{package_name}}/main.py"


@pytest.fixture
def checkout(repository: Path, tmp_path: Path) -> Path:
    """A checkout of one's own, in which nothing is installed."""
    return shutil.copytree(repository, tmp_path / "checkout")


@pytest.fixture
def make(checkout: Path, tool: Callable[[str], str]) -> Make:
    """Runs a target there, with the tools of this test run."""

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [tool("make"), "--assume-old=setup", f"BIN={Path(sys.executable).parent}", *arguments]
        return subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)

    return run


def test_a_named_stack_is_rendered_to_look_at(make: Make, checkout: Path) -> None:
    """`make render` says where the service lies, and that has the answers of the stack."""
    for _again in range(2):  # the second render takes the place of the first
        done = make("render", "STACK=flask-none")
        assert (done.returncode, done.stdout) == (0, "rendered/flask-none\n"), done.stderr
    recorded = read_yaml(checkout / done.stdout.strip() / ".copier-answers.yml")
    assert recorded.items() >= read_yaml(ROOT / "tests/answers/flask-none.yml").items()


@pytest.mark.parametrize("stack", ["STACK=flask-oracle", "STACK="])
def test_the_stacks_that_there_are_are_named(stack: str, make: Make, checkout: Path) -> None:
    """Another name renders nothing, and one line lists those that can be."""
    done = make("render", stack)
    assert done.returncode == 2
    assert sorted(done.stdout.removeprefix("STACK must be one of: ").split()) == STACKS
    assert not (checkout / "rendered").exists()


def test_every_rendered_file_is_traced_to_its_template(renders: list[Render]) -> None:
    """Of the templates that `make where` prints for a file, exactly one is in the overlays of its render."""
    sources = cache(runpy.run_path(str(ROOT / "scripts/where.py"))["sources"])
    for render in renders:
        for file in render.files():
            laid = [path for path in sources(file) if all(render.answers[name] == "." for name in overlays(path))]
            assert len(laid) == 1, (file, sources(file))


def overlays(path: Path) -> list[str]:
    """Return the overlays that contain a template file."""
    return [part.strip("{}") for part in path.parts if part.startswith("{{on_")]


def test_where_names_each_template_of_a_file(make: Make) -> None:
    """A file of which each framework has its own has a line for each."""
    done = make("where", "FILE=src/orders/main.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"template/{{{{on_{name}}}}}/{MAIN}" for name in ("fastapi", "flask")]


@pytest.mark.parametrize(
    ("file", "says"), [("src/orders/none.py", "Nothing in the template renders to"), ("", "Say which file")]
)
def test_a_file_that_nothing_renders_to_is_said_to_be_none(file: str, says: str, make: Make) -> None:
    """In a sentence, and the command fails."""
    done = make("where", f"FILE={file}")
    assert done.returncode == 2
    assert done.stderr.startswith(says)


def test_canary_of_an_unknown_stack_names_the_known_ones(make: Make) -> None:
    done = make("canary", "STACK=flask-oracle")
    assert done.returncode == 2
    assert "'flask-oracle' is not a named stack; use one of fastapi-duckdb, " in done.stderr


@pytest.mark.parametrize(
    ("requirement", "unbounded"),
    [('    "fastapi>=0.137,<0.166",', '    "fastapi>=0.137",'), ('    "orjson>=3.10",', '    "orjson>=3.10",')],
)
def test_unbounded_canary_drops_upper_bounds_only(requirement: str, unbounded: str) -> None:
    bound = runpy.run_path(str(ROOT / "scripts/canary.py"))["BOUND"]
    assert bound.sub(r'\1"', requirement) == unbounded
