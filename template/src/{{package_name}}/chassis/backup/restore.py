"""Restores a backup after checking its file, its origin and the database."""

from __future__ import annotations

from pathlib import Path

from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, select, table, text

from ..database import migrations
from ..database.maintenance import maintenance_connection
from . import BackupError, DatabaseBackup, Settings, archive

# Alembic's own table, with the revision of the schema.
_REVISIONS = "alembic_version"


def restore(path: Path, settings: Settings, backup: DatabaseBackup, *, replace: bool) -> archive.Manifest:
    """Replace the content of the database with a backup, and return the backup's manifest.

    Args:
        path: The file of the backup.
        settings: The settings, with the database to restore into.
        backup: The kind of database.
        replace: Whether rows that are in the database may be deleted.

    Raises:
        BackupError: The file or the database does not allow a restore. The database is unchanged.
    """
    timeout_seconds = settings.backup_timeout_seconds
    with archive.work_folder(settings.backup_directory, settings.service_name) as folder:
        dump = folder / backup.dump_name
        manifest = archive.unpack(path, dump, key_of(settings))
        if manifest.service != settings.service_name:
            raise BackupError(
                f"{path} is a backup of the service {manifest.service}, and this is {settings.service_name};"
                f" to restore it here, run this with SERVICE_NAME={manifest.service}"
            )
        with maintenance_connection(settings, backup.backend, timeout_seconds) as connection:
            if manifest.database != connection.dialect.name:
                raise BackupError(f"{path} is a backup of another database, {manifest.database}")
            _require_known_revision(connection, manifest)
            _require_permission(connection, backup, replace)
            connection.rollback()
            backup.restore(connection, dump, timeout_seconds)
    return manifest


def key_of(settings: Settings) -> archive.Key | None:
    """Return the key of the backups, if one is set."""
    return archive.Key(settings.backup_key.get_secret_value()) if settings.backup_key else None


def revision_of(connection: Connection) -> str:
    """Return the revision of the schema, or "" where no migration was run."""
    if not inspect(connection).has_table(_REVISIONS):
        return ""
    return ",".join(sorted(connection.scalars(text(f"SELECT version_num FROM {_REVISIONS}"))))


def table_names(connection: Connection, backup: DatabaseBackup) -> list[str]:
    """Return the tables of the service, without Alembic's own."""
    return sorted(backup.table_names(connection) - {_REVISIONS})


def _require_known_revision(connection: Connection, manifest: archive.Manifest) -> None:
    """Refuse a backup whose schema is newer than this release."""
    migrations.require_folder()
    script = ScriptDirectory.from_config(migrations.config_for(connection))
    if not set(manifest.revision.split(",")) <= {revision.revision for revision in script.walk_revisions()}:
        raise BackupError(
            f"the backup has the schema {manifest.revision}, which this release does not know;"
            f" restore it with release {manifest.release} or newer"
        )


def _require_permission(connection: Connection, backup: DatabaseBackup, replace: bool) -> None:
    """Refuse to delete rows without permission, and tables that may belong to another application."""
    tables = table_names(connection, backup)
    if tables and not revision_of(connection):
        raise BackupError("the database has tables that no migration of this service made; use an empty database")
    has_rows = any(connection.execute(select(1).select_from(table(name)).limit(1)).first() for name in tables)
    if has_rows and not replace:
        raise BackupError("the database holds rows; use --replace (REPLACE=yes) to delete them")
