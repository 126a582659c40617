"""Migrations with Alembic. `python -m <package> migrate` runs them once per release; replicas never do."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import Connection

from .. import settings as chassis_settings
from . import maintenance
from .backend import DatabaseBackend, MigrationError
from .base import Base
from .types import UtcDateTime

if TYPE_CHECKING:
    from alembic.config import Config

    from ..cli import Program

FOLDER = Path("migrations")
# A new revision is formatted like the rest of the code; ruff is a development dependency.
_FORMAT_REVISIONS = {
    "hooks": "ruff",
    "ruff.type": "exec",
    "ruff.executable": str(Path(sys.executable).with_name("ruff")),
    "ruff.options": "format --quiet REVISION_SCRIPT_FILENAME",
}


def add_commands(commands: Any, backend: DatabaseBackend[Any]) -> None:
    """Add `migrate` to the commands of the service."""
    parser = commands.add_parser("migrate", help="apply all migrations")
    parser.set_defaults(run=lambda program, options: _migrate(program, options, backend))
    actions = parser.add_subparsers(metavar="ACTION")
    down = actions.add_parser("downgrade", help="go back to a revision; `base` is an empty schema")
    down.add_argument("revision")
    down.set_defaults(action=lambda command, config, options: command.downgrade(config, options.revision))
    new = actions.add_parser("revision", help="write a revision with the difference between models and database")
    new.add_argument("message")
    new.set_defaults(
        action=lambda command, config, options: command.revision(config, options.message, autogenerate=True)
    )
    check = actions.add_parser("check", help="fail if models and database differ")
    check.set_defaults(action=lambda command, config, _options: command.check(config))


def _migrate(program: Program, options: argparse.Namespace, backend: DatabaseBackend[Any]) -> int:
    from alembic import command  # imported late: a serving process does not need Alembic

    settings = chassis_settings.view(chassis_settings.load(program.settings), backend.Settings)
    import_module(program.app.partition(":")[0])  # importing the models registers them
    action = getattr(options, "action", _upgrade)

    def work() -> None:
        timeout_seconds = settings.database_migration_timeout_seconds
        require_folder()
        with maintenance.maintenance_connection(settings, backend, timeout_seconds) as connection:
            action(command, config_for(connection), options)

    return maintenance.run(work, "The migration was not run", backend)


def _upgrade(command: Any, config: Config, _options: argparse.Namespace) -> None:
    """Apply all migrations. After a rollback the schema is that of a newer release, and there is nothing to do."""
    newer = _unknown_revisions(config)
    if newer:
        print(f"The database is at revision {', '.join(newer)} of a newer release; nothing was changed.")
        return
    command.upgrade(config, "head")


def _unknown_revisions(config: Config) -> list[str]:
    """Return the revisions of the database that this release does not know."""
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory

    connection: Connection = config.attributes["connection"]
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    current = MigrationContext.configure(connection).get_current_heads()
    connection.rollback()  # Alembic leaves the commit to the caller if a transaction has begun
    return sorted(set(current) - known)


def require_folder() -> None:
    """Check that the current folder has migrations.

    Raises:
        MigrationError: It has none.
    """
    if not FOLDER.is_dir():
        raise MigrationError(f"there is no folder {FOLDER}/ here; run this in the root folder of the service")


def config_for(connection: Connection) -> Config:
    """Return the configuration for Alembic."""
    from alembic.config import Config

    config = Config(attributes={"connection": connection, "metadata": Base.metadata, "render_item": _render_item})
    config.set_main_option("script_location", str(FOLDER))
    for name, value in _FORMAT_REVISIONS.items():
        config.set_section_option("post_write_hooks", name, value)
    return config


def _render_item(kind: str, item: Any, _context: Any) -> str | Literal[False]:
    """Render the chassis's types as the types they are stored as, so that revisions do not import this code."""
    if kind == "type" and isinstance(item, UtcDateTime):
        return "sa.DateTime(timezone=True)"
    return False
