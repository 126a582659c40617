"""A file for each test."""

from __future__ import annotations

from pathlib import Path

# Features of other databases that this one lacks.
LACKS = frozenset({"identity", "circles", "computed and stored"})
# The program that makes its backups, if there is one.
DUMP_TOOL = ""


def url(folder: Path) -> str:
    """Return the URL of the database of the test that runs in `folder`."""
    return f"duckdb:///{folder}/test.duckdb"


def settings(folder: Path) -> dict[str, str]:
    return {"DATABASE_URL": url(folder)}


def remove(_folder: Path) -> None:
    """Do nothing: the file is deleted with the folder."""
