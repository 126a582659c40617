"""Backups, made by the database's own tools. docs/backup.md is the guide for operators."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, SecretStr, field_validator
from sqlalchemy import Connection, inspect

from .. import database
from ..app import Chassis
from ..database.backend import DatabaseBackend
from ..instrumentation import Measurement
from ..lifecycle import EX_UNAVAILABLE
from ..settings import ServiceSettings

if TYPE_CHECKING:
    from .make import BackupResult


class BackupError(Exception):
    """A backup cannot be made or restored. The message says why and what to do."""

    exit_code: ClassVar[int] = 1


class ToolUnavailableError(BackupError):
    """A tool of the database is missing, or older than the server."""

    exit_code: ClassVar[int] = EX_UNAVAILABLE


class Settings(database.Settings, ServiceSettings):
    """Backups"""

    backup_directory: Path = Field(Path("backups"), description="Folder for backups; preferably on another disk.")
    backup_key: SecretStr | None = Field(
        None, description="Key that encrypts and signs backups (AGE-SECRET-KEY-1...); `backup --new-key` prints one."
    )
    backup_keep_count: int = Field(30, ge=1, description="Number of backups to keep; older ones are deleted.")
    backup_keep_days: int = Field(
        30, ge=1, description="Age in days at which a backup is deleted; the newest is never deleted."
    )
    backup_timeout_seconds: float = Field(3600.0, gt=0, description="Time limit for each tool of a backup or restore.")
    backup_verify_database_url: SecretStr | None = Field(
        None,
        description="Database that `backup --verify` overwrites, with `verify` in its name; by default it creates one.",
    )

    @field_validator("backup_verify_database_url")
    @classmethod
    def _is_another_url_of_this_database(cls, value: SecretStr | None) -> SecretStr | None:
        if value:
            cls.parse_url(value.get_secret_value())
        return value

    @field_validator("backup_key")
    @classmethod
    def _is_an_age_identity(cls, value: SecretStr | None) -> SecretStr | None:
        if value:
            from .archive import Key  # imported late: a service without a key does not need it

            Key(value.get_secret_value())
        return value

    def production_warnings(self) -> list[str]:
        problem = "BACKUP_KEY: backups are not encrypted; set it to a key that `backup --new-key` prints"
        return [*super().production_warnings(), *([] if self.backup_key else [problem])]


def newest_backup(settings: Settings) -> float | None:
    """Return the Unix time of the newest backup, 0 if there is none, or None if the folder cannot be read."""
    from .archive import found  # imported late: it needs the library that encrypts

    try:
        next(settings.backup_directory.iterdir(), None)  # unlike `found`, it fails if the folder cannot be read
        return max((time.timestamp() for time, _ in found(settings.backup_directory, settings.service_name)), default=0)
    except FileNotFoundError:
        return 0
    except OSError:
        return None


class DatabaseBackup(ABC):
    """A feature for `FEATURES`: the commands `backup` and `restore` for one kind of database.

    The methods get a connection under the migration lock. They raise `BackupError`.
    """

    backend: DatabaseBackend[Any]
    # The name of the dump in the file of a backup.
    dump_name: str

    @abstractmethod
    def tool_version(self) -> str:
        """Return the name and the version of the tool that makes the dump."""

    def server_version(self, _connection: Connection) -> str:
        """Return the version of the database. If the database is a library, this is also the version of the tool."""
        return self.tool_version()

    def table_names(self, connection: Connection) -> set[str]:
        """Return the tables in the default schema, except those that the database itself fills."""
        return set(inspect(connection).get_table_names())

    @abstractmethod
    def dump(self, connection: Connection, target: Path, timeout_seconds: float) -> None:
        """Write one consistent snapshot of the database to `target` while the service reads and writes."""

    @abstractmethod
    def restore(self, connection: Connection, source: Path, timeout_seconds: float) -> None:
        """Replace the content of the database with a dump. If that fails, the database is unchanged."""

    def install(self, chassis: Chassis) -> None:
        """Measure the age of the newest backup. The serving process itself makes no backups."""
        settings = chassis.settings_as(Settings)

        async def measure() -> list[Measurement]:
            newest = await asyncio.to_thread(newest_backup, settings)
            description = "Time of the newest backup (Unix time), or 0 if there is none."
            return [] if newest is None else [Measurement("backup.newest.timestamp", description, newest, unit="s")]

        chassis.measurements.append(measure)

    def add_commands(self, commands: Any) -> None:
        from .commands import add_commands  # imported late: a serving process does not need it

        add_commands(commands, self)

    def make(self, settings: Settings) -> BackupResult:
        """Make a backup, then delete the expired ones."""
        from .make import make

        return make(settings, self)
