"""A file for each test."""

from __future__ import annotations

from pathlib import Path

# What other databases have and this one has not.
LACKS = frozenset[str]()


def url(folder: Path) -> str:
    """Return the URL of the database of the test that runs in `folder`."""
    return f"sqlite:///{folder}/test.db"


def settings(folder: Path) -> dict[str, str]:
    return {"DATABASE_URL": url(folder)}


def remove(_folder: Path) -> None:
    """The file goes with the folder."""
