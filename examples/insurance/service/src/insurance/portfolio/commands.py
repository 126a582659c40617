"""The command `import`: it checks the two data files, and then stores their records in one unit of work."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from ..chassis.app import Chassis, chassis_of
from ..chassis.cli import Program
from ..chassis.data_files import DataFileError, Fault, load
from ..chassis.database.sync import Database
from .models import Claim, Policy
from .repository import open_repository
from .schemas import ClaimRecord, PolicyRecord

EXAMPLES = Path(__file__).parent / "data"


def install(chassis: Chassis) -> None:
    """Add nothing to the application; this feature has a command only."""


def add_commands(commands: Any) -> None:
    command = commands.add_parser("import", help="check policies.csv and claims.csv, and store their records")
    command.add_argument("folder", nargs="?", type=Path, default=EXAMPLES, help="the folder of both files")
    command.set_defaults(run=_import)


def read(folder: Path) -> tuple[list[PolicyRecord], list[ClaimRecord]]:
    """Return the records of both files.

    Raises:
        DataFileError: A record is not valid, or a claim names a policy that the file of policies lacks.
    """
    policies = load(folder / "policies.csv", PolicyRecord, key=["number"])
    claims = load(folder / "claims.csv", ClaimRecord, key=["number"])
    known = {policy.number for policy in policies}
    faults = [
        Fault(number, "policy_number", f"policies.csv has no policy {claim.policy_number}")
        for number, claim in enumerate(claims, 1)
        if claim.policy_number not in known
    ]
    if faults:
        raise DataFileError(folder / "claims.csv", faults)
    return policies, claims


def _import(program: Program, options: argparse.Namespace) -> int:
    try:
        policies, claims = read(options.folder)
    except DataFileError as error:
        sys.stderr.write(f"{error}\n")
        return os.EX_DATAERR
    chassis = chassis_of(program.create_app())
    try:
        with open_repository(chassis) as portfolio:
            portfolio.replace(Policy(**policy.model_dump()) for policy in policies)
            portfolio.replace(Claim(**claim.model_dump()) for claim in claims)
    finally:
        chassis.get(Database).engine.dispose()
    sys.stdout.write(f"Imported {len(policies)} policies and {len(claims)} claims.\n")
    return 0
