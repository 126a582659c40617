"""A file for each test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import small_disk

# Features of other databases that this database lacks.
LACKS = frozenset({"identity", "circles", "computed and stored", "savepoints"})
# The program that makes its backups, if there is one.
DUMP_TOOL = ""


def file(folder: Path) -> Path:
    """Return the file with the database of the test that runs in `folder`."""
    return folder / "test.duckdb"


def url(folder: Path) -> str:
    return f"duckdb:///{file(folder)}"


def settings(folder: Path) -> dict[str, str]:
    return {"DATABASE_URL": url(folder)}


@contextmanager
def on_small_disk(folder: Path) -> Iterator[tuple[str, Path]]:
    """Provide the URL of a database on a small disk, and the folder of that disk."""
    disk = folder / "disk"
    disk.mkdir()
    with small_disk(disk, 8):
        yield url(disk), disk


def remove(_folder: Path) -> None:
    """Do nothing: the file is deleted with the folder."""
