"""Renders, updates and compares services for the tests of updates."""

import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from copier import _template, _vcs, run_copy, run_update
from copier._main import Worker
from jinja2 import Environment
from pathspec import GitIgnoreSpec
from questions import questions
from releases import commit, git

Answers = Mapping[str, Any]
Files = Mapping[str, bytes]
# Gives a service of one's own, rendered from a release with answers.
Service = Callable[..., Path]

DEFAULTS: Answers = {}
# No question is asked and no trust given.
QUIETLY: dict[str, Any] = {"defaults": True, "quiet": True, "overwrite": True}


def without_repeats(patch: pytest.MonkeyPatch, clones: Path) -> None:
    """Skip work that Copier repeats for every file, which takes half of its time. The renders stay the same.

    Copier compiles every path and text again, collects all answers for each part of a path, although most parts have no
    Jinja, and asks git about a file mode that matters only if `core.fileMode` is off. It also reads the questions for
    each of the three renders of an update, without the faster libyaml, and clones the template six times. `clones` is
    the folder for one clone of each commit.
    """
    compiled, known = Environment.compile, dict[Any, Any]()

    def compile_once(self: Environment, source: Any, name: Any = None, filename: Any = None, **named: Any) -> Any:
        key = (str(source), name, *named.items())  # every update has the same files in a new folder
        if not isinstance(source, str) or key not in known:
            known[key] = compiled(self, source, name, filename, **named)
        return known[key]

    patch.setattr(Environment, "compile", compile_once)
    rendered = Worker._render_string

    def render_jinja(self: Worker, string: str, extra_context: Any = None) -> str:
        return rendered(self, string, extra_context) if "{" in string else string

    def answers_relpath(self: Worker) -> Path:
        path = self.answers_file or self.template.answers_relpath
        assert "{" not in str(path)
        return Path(path)

    cloned, places = _vcs.clone, dict[tuple[str, str], str]()

    def clone_once(url: str, ref: str = "HEAD", location: str | None = None) -> str:
        # The commit of a remote repository is unknown, and a clone of uncommitted changes cannot be reused.
        if not Path(url).is_dir() or (not ref.startswith("v") and git(Path(url), "status", "--porcelain")):
            return cloned(url, ref, location)
        key = (url, git(Path(url), "describe", "--tags", "--always", "--long", ref))  # the commit and its tag
        if key not in places:
            places[key] = cloned(url, ref, str(clones / str(len(places))))
        return places[key]

    patch.setattr(_template, "clone", clone_once)
    patch.setattr(Worker, "_render_string", render_jinja)
    patch.setattr(Worker, "answers_relpath", property(answers_relpath))
    patch.setattr(yaml, "SafeLoader", yaml.CSafeLoader)
    patch.setattr(Worker, "_sync_git_index_executable_bit", lambda *_: None, raising=False)


class Services:
    """Services as their releases render them, each rendered once and committed. Read only."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.known: dict[str, Path] = {}

    def __call__(self, template: Path, version: str, answers: Answers = DEFAULTS) -> Path:
        """Where the service lies."""
        key = repr((template, version, sorted(answers.items())))
        if key not in self.known:
            path = self.folder / str(len(self.known)) / "service"
            run_copy(str(template), path, dict(answers), vcs_ref=version, **QUIETLY)
            commit(path, f"Rendered from {version}")
            self.known[key] = path
        return self.known[key]


def files(service: Path) -> dict[str, bytes]:
    """The bytes of every file of a service, git's own apart."""
    found = (path for path in sorted(service.rglob("*")) if path.is_file())
    named = {path.relative_to(service).as_posix(): path.read_bytes() for path in found}
    return {path: content for path, content in named.items() if not path.startswith(".git/")}


def update(service: Path, version: str, **answers: Any) -> dict[str, bytes]:
    """Commit what the owner did, update, and return what is there then. No trust is given."""
    commit(service, "The owner's work")
    run_update(service, dict(answers), vcs_ref=version, **QUIETLY)
    return files(service)


def conflicts(found: Files) -> list[str]:
    """Files in which an update left a conflict, or beside which it left a rejected part."""
    marker = re.compile(rb"^(<{7}|>{7}) ", re.MULTILINE)
    return [path for path, content in found.items() if path.endswith(".rej") or marker.search(content)]


def territory(found: Files, yours: bool) -> dict[str, bytes]:
    """The files that are the owner's, by the table of territories, or all the others."""
    package = next(path.split("/")[1] for path in found if path.endswith("/chassis/features.py"))
    table = questions()["territories"]["default"].replace("{{ package_name }}", package)
    spec = GitIgnoreSpec.from_lines(yaml.safe_load(re.sub(r"\{\{.*?\}\}", "x", table))["yours"])
    return {path: content for path, content in found.items() if spec.match_file(path) is yours}


def differences(found: Files, wanted: Files) -> list[str]:
    """The paths that are not the same in both."""
    return sorted(path for path in found.keys() | wanted.keys() if found.get(path) != wanted.get(path))


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command without a terminal."""
    return subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


def copier(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the real command line of Copier."""
    return run(sys.executable, "-m", "copier", *arguments, cwd=cwd)
