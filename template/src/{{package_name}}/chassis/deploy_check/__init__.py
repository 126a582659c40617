"""Feature `deploy-check`: a command that checks whether the service is ready for production.

A serving process imports only this file. The command imports `command.py`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..settings import BaseChassisSettings

if TYPE_CHECKING:
    from ..app import Chassis
    from ..cli import Program


@dataclass(frozen=True)
class CheckContext:
    """The service and its production settings, as the checks see them.

    `settings` is None if they are invalid, and `problems` then has a sentence for each reason. `variables` is the
    environment of the processes that checks start. `root` is the root of the file system; tests pass a folder.
    """

    program: Program
    settings: BaseChassisSettings | None
    problems: Sequence[str]
    variables: Mapping[str, str]
    env_file: Path | None = None
    root: Path = Path("/")


@dataclass(frozen=True)
class CheckResult:
    """The outcome of a check, with evidence. The score leaves out checks that are `not_checked`."""

    outcome: Literal["passed", "failed", "not_checked"]
    evidence: str


@dataclass(frozen=True)
class DeployCheck:
    """One check. `remedy` says what to do if it fails; the command exits with 1 if a `required` check fails."""

    name: str
    check: Callable[[CheckContext], CheckResult]
    remedy: str
    required: bool = True


def result_of(holds: bool, evidence: str) -> CheckResult:
    return CheckResult("passed" if holds else "failed", evidence)


def install(_chassis: Chassis) -> None:
    """Add nothing to a serving process."""


def add_commands(commands: Any) -> None:
    """Add `deploy-check` to the commands of the service."""
    parser = commands.add_parser("deploy-check", help="check whether the service is ready for production")
    parser.add_argument("--env-file", type=Path, help="the production settings; default: .env.production, else .env")

    def run(program: Program, options: argparse.Namespace) -> int:
        from .command import deploy_check

        return deploy_check(program, options.env_file, commands.choices)

    parser.set_defaults(run=run)
