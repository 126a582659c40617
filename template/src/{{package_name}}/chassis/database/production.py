"""What the database adds to the production checklist."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from ..prod_check.row import Finding, Row, Subject, last_line, unknown_before_valid, verdict
from .connection import url_for
from .dialect import Dialect


def rows(dialect: Dialect) -> tuple[Row, ...]:
    """Return the rows of this database."""
    return (
        Row(
            "migrations",
            8,
            "The database has the schema of this release, and the schema is what the models say",
            "run `migrate` with these settings; for models that have changed, write a revision first",
            _migrations,
        ),
        Row(
            "backup",
            9,
            "A backup can be made and brought back",
            "read docs/backup.md; RESTORE_DATABASE_URL names an empty database where this user may make none",
            partial(_backup, dialect),
        ),
    )


def _migrations(subject: Subject) -> Finding:
    if subject.settings is None:
        return unknown_before_valid()
    done = subject.run(sys.executable, "-m", subject.package, "migrate", "check")
    return verdict(done.returncode == 0, "models and database agree" if done.returncode == 0 else last_line(done))


def _backup(dialect: Dialect, subject: Subject) -> Finding:
    """Make one in a folder of its own, and restore it into a database that is gone afterwards."""
    if subject.settings is None:
        return unknown_before_valid()
    with TemporaryDirectory() as name:
        folder = Path(name)
        made = subject.run(sys.executable, "-m", subject.package, "backup", BACKUP_DIRECTORY=name)
        if made.returncode != 0:
            return verdict(False, last_line(made))
        with _empty_database(dialect, subject, folder) as url:
            file = _file(made.stdout)
            restored = subject.run(sys.executable, "-m", subject.package, "restore", file, DATABASE_URL=url)
    if restored.returncode != 0:
        return verdict(False, last_line(restored))
    before, after = (re.findall(r"(-?\d+) rows", done.stdout)[-1] for done in (made, restored))
    return verdict(before == after, f"{before} rows were kept, and {after} restored")


@contextmanager
def _empty_database(dialect: Dialect, subject: Subject, folder: Path) -> Iterator[str]:
    named = subject.variables.get("RESTORE_DATABASE_URL")
    if named:
        yield named
        return
    with dialect.scratch(url_for(subject.settings, dialect.SYNC_DRIVER), folder) as url:
        yield url.render_as_string(hide_password=False)


def _file(said: str) -> str:
    """Return what `backup` has made: a service that makes it itself has a folder of its own for it."""
    path: str = re.findall(r"^(.+): -?\d+ rows", said, re.MULTILINE)[-1]
    return path
