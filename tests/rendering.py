"""Renders the template quickly and often: from an export without git, with one Jinja environment that caches.

It reaches into Copier's own worker, in this one place, and test_render.py compares it with a plain run byte for byte.
"""

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

from copier._main import Worker
from copier._settings import SettingsModel
from copier._template import Template
from pairwise import Row, pairwise
from questions import ROOT, asked, metadata, values


@dataclass(frozen=True)
class Render:
    """A rendered service and every answer behind it, the hidden ones too."""

    path: Path
    answers: Mapping[str, Any] = field(repr=False)

    def files(self) -> dict[str, bytes]:
        """The bytes of every file, by its path in the service."""
        found = (path for path in sorted(self.path.rglob("*")) if path.is_file())
        return {path.relative_to(self.path).as_posix(): path.read_bytes() for path in found}


def export(destination: Path, root: Path = ROOT) -> Path:
    """Copy what git knows or would add: what Copier renders from a checkout, without the checkout."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if (root / name).is_file():
            (destination / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, destination / name)
    return destination


class Renderer:
    """Renders one template many times. The template must not change meanwhile."""

    def __init__(self, template: Path) -> None:
        self.template = Template(url=str(template))
        with Worker(src_path=str(template)) as worker:
            self.environment = worker.jinja_env
        self.environment.auto_reload = False
        self.environment.from_string = cache(self.environment.from_string)  # type: ignore[assignment,method-assign]

    def __call__(self, destination: Path, answers: Mapping[str, Any] | None = None) -> Render:
        """Render with the defaults and these answers; a bad answer raises ValueError."""
        with Worker(
            src_path=self.template.url,
            dst_path=destination,
            data=dict(answers or {}),
            settings=SettingsModel(),
            defaults=True,
            quiet=True,
        ) as worker:
            vars(worker).update(template=self.template, jinja_env=self.environment)
            # Copier asks git about every file it writes; there is no repository to ask.
            with patch("copier._main.is_git_available", return_value=False):
                worker.run_copy()
            return Render(destination, worker.answers.combined)


def sets(question: str) -> list[list[str]]:
    """Sets of the choices of a question that takes several. Each two choices occur together, apart and neither."""
    rows = pairwise({value: [False, True] for value in values()[question]})
    return [[value for value, chosen in row.items() if chosen] for row in rows]


def factors() -> dict[str, list[Any]]:
    """Return what the matrix varies: each choice, sets of choices if several are allowed, and having a repository."""
    several = {name: sets(name) for name, question in asked().items() if question.get("multiselect")}
    return {**values(), **several, "repository": ["acme/orders", ""]}


# The features that use the store that `cache` names.
STORE_USERS = frozenset({"rate-limit", "cache", "idempotency", "websocket"})


def offered(row: Row) -> bool:
    """Whether the questions allow this combination. A store that nothing uses is not asked for."""
    return (
        bool(row["repository"] or row["ci"] != "github")
        and (row["database"] != "none" or "backup" not in row["features"])
        and (row["framework"] != "flask" or "websocket" not in row["features"])
        and (row["cache"] == "memory" or not STORE_USERS.isdisjoint(row["features"]))
        and ("aws" not in row["deployment"] or not metadata("database")[row["database"]]["file"])
    )


@cache
def matrix() -> list[Row]:
    """Answers in which every pair of values occurs."""
    return pairwise(factors(), offered)
