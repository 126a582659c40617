"""`python -m <package> prod-check`: the rows, their evidence, a score, and an exit code."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import ROWS
from .row import Finding, Row, Subject, verdict
from .settings import read

if TYPE_CHECKING:
    from ..cli import Program
    from ..service import Feature

_FORM = Path(".env.production")


@dataclass(frozen=True)
class Report:
    """Rows with what was found. `score` is of 100, by weight, over the rows that could be checked; rounded down."""

    findings: Sequence[tuple[Row, Finding]]

    @property
    def score(self) -> int:
        checked = [(row, finding) for row, finding in self.findings if finding.outcome != "not_checked"]
        possible = sum(row.weight for row, _ in checked)
        reached = sum(row.weight for row, finding in checked if finding.outcome == "passed")
        return 100 * reached // possible if possible else 0

    def as_text(self) -> str:
        marks = {"passed": "ok", "failed": "FAILED", "not_checked": "not checked"}
        lines = []
        for row, finding in self.findings:
            lines.append(f"{marks[finding.outcome]:<12}{row.weight:>3}  {row.name}: {finding.evidence}")
            if finding.outcome == "failed":
                lines.append(f"{'':17}{row.claim}: {row.remedy}.")
        unchecked = [row.name for row, finding in self.findings if finding.outcome == "not_checked"]
        lines.append(f"Score: {self.score} of 100" + (f", without {', '.join(unchecked)}" if unchecked else ""))
        return "\n".join(lines)

    def as_json(self) -> str:
        rows = [
            {"name": row.name, "weight": row.weight, "claim": row.claim, "remedy": row.remedy} | asdict(finding)
            for row, finding in self.findings
        ]
        return json.dumps({"score": self.score, "rows": rows}, indent=2)


def add_command(commands: Any, features: Sequence[Feature]) -> None:
    """Add `prod-check` to the service's commands."""
    rows = rows_of(features)
    parser = commands.add_parser("prod-check", help="try every row of the production checklist, and give a score")
    parser.add_argument("--env-file", type=Path, help=f"the settings of production; {_FORM} if there is one")
    parser.add_argument("--json", action="store_true", help="print the findings for a machine")
    parser.add_argument("--minimum", type=int, default=100, metavar="SCORE", help="exit 1 under this score (100)")
    parser.add_argument("--row", action="append", choices=[row.name for row in rows], help="try only this row")
    parser.set_defaults(run=lambda program, options: _prod_check(program, options, rows))


def rows_of(features: Sequence[Feature]) -> list[Row]:
    """Return the rows of the chassis, and those of the features that have some."""
    added = [getattr(feature, "production_rows", tuple) for feature in features]
    return [*ROWS, *(row for rows in added for row in rows())]


def _prod_check(program: Program, options: argparse.Namespace, rows: Sequence[Row]) -> int:
    env_file = options.env_file or (_FORM if _FORM.is_file() else None)
    if env_file and not env_file.is_file():
        print(f"There is no file {env_file}; copy .env.production.example to it and fill it in.", file=sys.stderr)
        return 1
    subject = Subject(Path.cwd(), program, *read(program.settings, env_file))
    wanted = [row for row in rows if options.row is None or row.name in options.row]
    report = Report([(row, _judge(row, subject)) for row in wanted])
    print(report.as_json() if options.json else report.as_text())
    return 0 if report.score >= options.minimum else 1


def _judge(row: Row, subject: Subject) -> Finding:
    try:
        return row.check(subject)
    except Exception as error:  # a row that breaks is a row that does not hold; the others are still wanted
        return verdict(False, f"the check itself failed with {type(error).__name__}")
