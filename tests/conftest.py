"""Fixtures: the template without its checkout, its renders, and the tools that check them."""

import os
import pickle
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from environments import connect, create, libraries, only_one
from live import run
from pytest_copie.plugin import Copie
from questions import asked, questions
from releases import Releases, commit, tagged_clone
from rendering import Render, Renderer, export, matrix
from suites import WHOLE
from suites import answers as answers_of
from updating import DEFAULTS, Answers, Service, Services, without_repeats

# The services under test run as on an owner's machine: without the variables of this `make`, and with the defaults of
# Python. Unbuffered output once hid a hang, and without bytecode each of hundreds of starts compiles every library.
for name in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"):
    os.environ.pop(name, None)

LONGEST_FIRST = [*WHOLE, "containers", "compose", "examples", "stacks", "update"]


def pytest_xdist_auto_num_workers() -> int:
    """Return more than two workers for each core: tests spend half of their time waiting for servers and timeouts."""
    return 2 * (os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run a test that is marked `only_stacks` on these stacks only. Its result does not depend on other databases.

    The longest groups come first, so that at the end no worker runs one alone. This needs `--no-loadscope-reorder`.
    """
    items[:] = sorted(filter(_is_wanted, items), key=_turn)


def _turn(item: pytest.Item) -> int:
    """Return the rank of a test. The whole suite of a framework takes minutes, and a test without a group seconds."""
    group = item.get_closest_marker("xdist_group")
    if group is None:
        return LONGEST_FIRST.index("update") if item.get_closest_marker("update") else len(LONGEST_FIRST)
    name = group.args[0]
    return LONGEST_FIRST.index(name if name in LONGEST_FIRST else "stacks")


def _is_wanted(item: pytest.Item) -> bool:
    mark = item.get_closest_marker("only_stacks")
    return mark is None or item.callspec.params["stack"] in mark.args  # type: ignore[attr-defined]


@pytest.fixture(scope="session", autouse=True)
def _no_user_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Run Copier without the user's own defaults and trust settings."""
    settings = tmp_path_factory.mktemp("settings") / "settings.yml"
    settings.write_text("{}\n", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COPIER_SETTINGS_PATH", str(settings))
        yield


@pytest.fixture(scope="session", autouse=True)
def _quick_copier(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Run Copier in this process with cached results. The command line is not affected."""
    with pytest.MonkeyPatch.context() as patch:
        without_repeats(patch, tmp_path_factory.mktemp("clones"))
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
def renders(template: Path, shared: Path) -> list[Render]:
    """The whole matrix, rendered once for all workers. Read only."""
    folder = shared / "renders"
    with only_one(shared / "renders.lock"):
        if not (folder / "answers").exists():
            renderer = Renderer(template)
            found = [renderer(folder / f"{number:02}", row) for number, row in enumerate(matrix())]
            (folder / "answers").write_bytes(pickle.dumps([plain(render.answers) for render in found]))
    answers = pickle.loads((folder / "answers").read_bytes())  # noqa: S301 - written above
    return [Render(folder / f"{number:02}", found) for number, found in enumerate(answers)]


def plain(answers: Mapping[str, Any]) -> dict[str, Any]:
    """The answers to questions, without what Copier adds to them."""
    return {name: answers[name] for name in questions()}


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of this test run share."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def installed(renders: list[Render], shared: Path) -> Path:
    """The libraries of every option, installed once for all workers."""
    with only_one(shared / "environment.lock"):
        done = shared / "environment-installed"
        if not done.exists():
            create(shared / "environment", [render.path for render in renders])
            done.touch()
    return libraries(shared / "environment")


@pytest.fixture(scope="session")
def libraries_in_mypy(
    renderer: Renderer, installed: Path, shared: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A cache of mypy with the results for the shared libraries, most of its work. Each worker has a copy."""
    cache = shared / "mypy"
    with only_one(shared / "mypy.lock"):
        if not cache.exists():
            for name in WHOLE:
                service = renderer(tmp_path_factory.mktemp("typed") / name, answers_of(name)).path
                connect(service, installed)
                run("make", "types", cwd=service, MYPY_CACHE_DIR=str(cache))
    return shutil.copytree(cache, tmp_path_factory.mktemp("mypy") / "cache")


@pytest.fixture(scope="session")
def repository(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the template as a separate repository, which does not change during the tests."""
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


@pytest.fixture(scope="session")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Releases:
    """The template with its releases, and the working tree as the newest of them. Read only."""
    return tagged_clone(tmp_path_factory.mktemp("releases") / "seaworthy")


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory) -> Services:
    """Services as they were rendered. Read only."""
    return Services(tmp_path_factory.mktemp("rendered"))


@pytest.fixture
def service(services: Services, tmp_path: Path) -> Service:
    """Gives a service of one's own, rendered from a release, to edit and to update."""

    def copy(template: Path, version: str, answers: Answers = DEFAULTS) -> Path:
        return shutil.copytree(services(template, version, answers), tmp_path / "service", symlinks=True)

    return copy
