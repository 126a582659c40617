"""A row of the production checklist: what must hold, what it weighs, and how to see whether it does."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from ..cli import Program

_LONGEST_COMMAND_SECONDS = 3600  # a backup of a large database

Outcome = Literal["passed", "failed", "not_checked"]


@dataclass(frozen=True)
class Finding:
    """What was seen. `not_checked`: what a row judges is out of reach here, so it counts neither for nor against."""

    outcome: Outcome
    evidence: str


@dataclass(frozen=True)
class Subject:
    """What is judged: a folder with the service in it, and its settings in production.

    `settings` is None when they are not valid; `problems` has a sentence for each reason. `variables` is the
    environment of a process that is started with these settings.
    """

    folder: Path
    program: Program
    settings: Any
    problems: list[str]
    variables: Mapping[str, str]

    @property
    def package(self) -> str:
        return self.program.app.partition(".")[0]

    @property
    def is_checkout(self) -> bool:
        """Tell whether the source lies here; in an image only the installed package does."""
        return (self.folder / "pyproject.toml").is_file()

    def run(self, *command: str, text: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the folder, with the settings that are judged and `variables` in the place of some."""
        return subprocess.run(
            command,
            cwd=self.folder,
            env={**self.variables, **variables},
            input=text,
            capture_output=True,
            text=True,
            check=False,
            timeout=_LONGEST_COMMAND_SECONDS,
        )


@dataclass(frozen=True)
class Row:
    """`claim` says what holds when the row passes; `remedy` what to do when it does not."""

    name: str
    weight: int
    claim: str
    remedy: str
    check: Callable[[Subject], Finding]


def verdict(holds: bool, evidence: str) -> Finding:
    """Return `passed` or `failed`, with what was seen."""
    return Finding("passed" if holds else "failed", evidence)


def unknown_before_valid() -> Finding:
    """Return what is said of a row that needs the settings, while they are not valid."""
    return verdict(False, "cannot be told before the settings are valid")


def not_checked(why: str) -> Finding:
    return Finding("not_checked", why)


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    """Return the last thing that a command said: a failing one ends with the reason."""
    return next(reversed((done.stdout + done.stderr).strip().splitlines()), f"exit code {done.returncode}")
