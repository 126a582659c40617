"""Makes a backup: one moment of the whole database, read while the service writes."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Table, select, type_coerce
from sqlalchemy.types import NullType

from .. import jobs
from ..dialect import Dialect
from . import BackupError, archive, encryption, files, key_of, tables

# How many rows are in memory at once.
_BATCH = 100


@dataclass(frozen=True)
class Made:
    """What came of it."""

    path: Path
    rows: int
    size_bytes: int
    seconds: float
    deleted: int


def make(settings: Any, dialect: Dialect, is_ending: Callable[[], bool] = lambda: False) -> Made:
    """Write one backup and read it back, then delete those that have had their time.

    Raises:
        BackupError: the database was never migrated, or holds what cannot be kept; or `is_ending()` became true.
    """
    began, key = time.monotonic(), key_of(settings)
    with jobs.exclusive(settings, dialect, settings.backup_timeout_seconds) as connection:
        for statement in dialect.SNAPSHOT:
            connection.exec_driver_sql(statement)
        moment, found = datetime.now(UTC), tables.read(connection)
        header = _header(settings, connection, found, moment, encrypted=bool(key))
        path = files.path_for(settings.backup_directory, settings.service_name, moment)
        with files.new_file(path) as (part, file):
            counts = archive.write(file, header, _rows(connection, found, dialect, is_ending), key)
            file.flush()
            written = archive.Archive(part)
            written.check_sum()
            written.check_rows(key)
    deleted = _prune(settings)
    return Made(path, counts.total(), path.stat().st_size, time.monotonic() - began, len(deleted))


def _header(
    settings: Any, connection: Connection, found: Sequence[Table], moment: datetime, encrypted: bool
) -> archive.Header:
    """Say what is in a backup of these tables; the database must have a schema."""
    revision = tables.revision_of(connection)
    if not revision:
        raise BackupError("the database has no schema yet; run migrate")
    return archive.Header(
        service=settings.service_name,
        release=settings.service_version,
        database=connection.dialect.name,
        revision=revision,
        created=moment.isoformat(timespec="milliseconds"),
        tables={str(table.name): [str(column.name) for column in tables.columns(table)] for table in found},
        salt=secrets.token_hex(encryption.SALT_BYTES) if encrypted else "",
    )


def _rows(
    connection: Connection, found: Sequence[Table], dialect: Dialect, is_ending: Callable[[], bool]
) -> Iterator[archive.Row]:
    """Yield every row as the driver gives it, before SQLAlchemy makes anything of it."""
    connection = connection.execution_options(yield_per=_BATCH)
    for table in found:
        wanted = [type_coerce(dialect.stored(column), NullType()) for column in tables.columns(table)]
        name = str(table.name)
        for row in connection.execute(select(*wanted)):
            if is_ending():
                raise BackupError("the service is ending")
            yield name, row


def _prune(settings: Any) -> list[Path]:
    return files.prune(
        settings.backup_directory,
        settings.service_name,
        settings.backup_keep_count,
        settings.backup_keep_days,
        datetime.now(UTC),
    )
