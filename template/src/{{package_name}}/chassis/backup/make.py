"""Makes a backup while the service reads and writes, and verifies that it can be restored."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Connection, make_url

from ..database.connection import url_for
from ..database.maintenance import MIGRATE, maintenance_connection, require_database
from . import BackupError, DatabaseBackup, Settings, archive
from .restore import key_of, restore, revision_of, table_names


@dataclass(frozen=True)
class BackupResult:
    """A new backup, and the number of expired backups that were deleted afterwards."""

    path: Path
    size_bytes: int
    seconds: float
    deleted: int


def _now() -> datetime:
    return datetime.now(UTC)


def make(settings: Settings, backup: DatabaseBackup, clock: Callable[[], datetime] = _now) -> BackupResult:
    """Make a backup and read it back, then delete the expired ones.

    Raises:
        BackupError: The database was never migrated, or its tool failed.
    """
    began, key = time.monotonic(), key_of(settings)
    directory, service = settings.backup_directory, settings.service_name
    require_database(settings, backup.backend)
    # Migrations wait for this connection, so that the dump has the schema of the manifest.
    with (
        maintenance_connection(settings, backup.backend, settings.backup_timeout_seconds) as connection,
        archive.work_folder(directory, service) as folder,
    ):
        dump, part, moment = folder / backup.dump_name, folder / "backup", clock()
        manifest = _manifest(settings, backup, connection, moment)
        backup.dump(connection, dump, settings.backup_timeout_seconds)
        archive.pack(part, dump, replace(manifest, sha256=archive.checksum(dump)), key)
        archive.unpack(part, dump, key)
        path = archive.publish(part, directory, service, moment, is_encrypted=key is not None)
    keep_count, keep_days = settings.backup_keep_count, settings.backup_keep_days
    deleted = archive.prune(directory, service, keep_count, keep_days, clock(), kept=path)
    return BackupResult(path, path.stat().st_size, time.monotonic() - began, deleted)


def _manifest(settings: Settings, backup: DatabaseBackup, connection: Connection, moment: datetime) -> archive.Manifest:
    manifest = archive.Manifest(
        service=settings.service_name,
        release=settings.service_version,
        created=moment.isoformat(timespec="milliseconds"),
        database=connection.dialect.name,
        revision=revision_of(connection),
        tables=table_names(connection, backup),
        tool=backup.tool_version(),
        server=backup.server_version(connection),
    )
    connection.rollback()
    if not manifest.revision:
        raise BackupError(f"the database has no schema yet; run `{MIGRATE}`")
    return manifest


def verify(path: Path, settings: Settings, backup: DatabaseBackup) -> None:
    """Restore a backup into a scratch database.

    Raises:
        BackupError: The backup cannot be restored, or the tables of its manifest are not in it.
    """
    with _scratch_settings(settings, backup) as scratch:
        manifest = restore(path, scratch, backup, replace=True)
        with maintenance_connection(scratch, backup.backend, settings.backup_timeout_seconds) as connection:
            restored = table_names(connection, backup)
    if restored != manifest.tables:
        raise BackupError(f"{path} was restored with the tables {restored} instead of {manifest.tables}")


@contextmanager
def _scratch_settings(settings: Settings, backup: DatabaseBackup) -> Iterator[Settings]:
    """Yield settings with the database that may be overwritten, or with a new one, which is dropped afterwards."""

    def with_url(url: str) -> Settings:
        return settings.model_copy(update={"database_url": type(settings.database_url)(url)})

    named = settings.backup_verify_database_url
    if named:
        if "verify" not in Path(make_url(named.get_secret_value()).database or "").name:
            raise BackupError("BACKUP_VERIFY_DATABASE_URL: `verify` is not in the name of the database; rename it")
        yield with_url(named.get_secret_value())
        return
    url = url_for(settings, backup.backend.SYNC_DRIVER)
    with (
        archive.work_folder(settings.backup_directory, settings.service_name) as folder,
        backup.backend.scratch(url, folder) as scratch,
    ):
        yield with_url(scratch.render_as_string(hide_password=False))
