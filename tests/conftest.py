"""Fixtures: the template without its checkout, its renders, and the tools that judge them."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_copie.plugin import Copie
from questions import asked
from releases import commit
from rendering import Render, Renderer, export, matrix

# `make test` runs this; what it tells the commands that it starts is no business of the services that are tested.
# Nor is a wish for no bytecode: each of their starts, hundreds of them, would compile every library anew.
for name in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "PYTHONDONTWRITEBYTECODE"):
    os.environ.pop(name, None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave a test that is marked `only_stacks` to these: what it shows does not depend on the others' databases."""
    items[:] = [item for item in items if _is_wanted(item)]


def _is_wanted(item: pytest.Item) -> bool:
    mark = item.get_closest_marker("only_stacks")
    return mark is None or item.callspec.params["stack"] in mark.args  # type: ignore[attr-defined]


@pytest.fixture(scope="session", autouse=True)
def _nobody(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Copier without the defaults and trust of whoever runs the tests."""
    settings = tmp_path_factory.mktemp("settings") / "settings.yml"
    settings.write_text("{}\n", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COPIER_SETTINGS_PATH", str(settings))
        yield


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template as git knows it, without git. Read only: `planted` is the one to break."""
    return export(tmp_path_factory.mktemp("template"))


@pytest.fixture
def planted(template: Path, tmp_path: Path) -> Path:
    """A copy of the template for a test to plant a fault in."""
    destination = tmp_path / "planted"
    for name in ("copier.yml", "options", "template", "tests/answers"):
        source = template / name
        destination.joinpath(name).parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, destination / name)
    return destination


@pytest.fixture(scope="session")
def renderer(template: Path) -> Renderer:
    """Renders any answers in some hundredths of a second."""
    return Renderer(template)


@pytest.fixture(scope="session")
def renders(renderer: Renderer, tmp_path_factory: pytest.TempPathFactory) -> list[Render]:
    """The whole matrix, rendered. Read only."""
    folder = tmp_path_factory.mktemp("renders")
    return [renderer(folder / f"{number:02}", row) for number, row in enumerate(matrix())]


@pytest.fixture(scope="session")
def repository(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template as a repository of its own, which nobody edits meanwhile."""
    folder = shutil.copytree(template, tmp_path_factory.mktemp("repository") / "seaworthy")
    commit(folder, "The template")
    return folder


@pytest.fixture
def render(copie: Copie, repository: Path) -> Callable[..., Path]:
    """`copie.copy`, which would swallow exceptions and take misspelt answers, made strict."""

    def strict(**answers: Any) -> Path:
        unknown = answers.keys() - asked()
        assert not unknown, f"no such question: {unknown}"
        result = copie.copy(extra_answers=answers, template_dir=repository)
        assert result.exit_code == 0, result.exception
        assert result.project_dir is not None
        recorded = {name: result.answers[name] for name in answers}
        assert recorded == answers
        return Path(result.project_dir)

    return strict


@pytest.fixture(scope="session")
def tool() -> Callable[[str], str]:
    """Finds a command beside this Python or on the path; an absent one skips the test, or fails it where CI is true."""

    def find(name: str) -> str:
        if Path(name).is_absolute() and Path(name).exists():
            return name
        places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        found = shutil.which(name, path=places)
        if found is None:
            absent = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
            absent(f"{Path(name).name} is not installed")
        return str(found)

    return find
