"""Migrations with Alembic, run once a release by `python -m <package> migrate`, never at the start of a replica."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import Connection

from .. import settings as chassis_settings
from . import jobs
from .base import Base
from .dialect import Dialect, MigrationError
from .types import UtcDateTime

if TYPE_CHECKING:
    from alembic.config import Config

    from ..cli import Program

FOLDER = Path("migrations")
# A new revision is formatted like the rest of the code, by the same development dependency.
_FORMAT_REVISIONS = {
    "hooks": "ruff",
    "ruff.type": "exec",
    "ruff.executable": str(Path(sys.executable).with_name("ruff")),
    "ruff.options": "format --quiet REVISION_SCRIPT_FILENAME",
}


def add_commands(commands: Any, dialect: Dialect) -> None:
    """Add `migrate` to the service's commands."""
    parser = commands.add_parser("migrate", help="bring the database to the newest schema")
    parser.set_defaults(run=lambda program, options: _migrate(program, options, dialect))
    actions = parser.add_subparsers(metavar="ACTION")
    down = actions.add_parser("downgrade", help="go back to a revision; `base` is an empty database")
    down.add_argument("revision")
    down.set_defaults(action=lambda command, config, options: command.downgrade(config, options.revision))
    new = actions.add_parser("revision", help="write a revision from the difference between models and database")
    new.add_argument("message")
    new.set_defaults(
        action=lambda command, config, options: command.revision(config, options.message, autogenerate=True)
    )
    check = actions.add_parser("check", help="fail when models and database differ")
    check.set_defaults(action=lambda command, config, _options: command.check(config))


def _migrate(program: Program, options: argparse.Namespace, dialect: Dialect) -> int:
    from alembic import command  # a service that serves starts sooner without Alembic

    settings: Any = chassis_settings.load(program.settings)
    import_module(program.app.partition(":")[0])  # the models register themselves when they are imported
    action = getattr(options, "action", lambda command, config, _options: command.upgrade(config, "head"))

    def work() -> None:
        timeout_seconds = settings.database_migration_timeout_seconds
        require_folder()
        with jobs.exclusive(settings, dialect, timeout_seconds) as connection:
            action(command, config_for(connection), options)

    return jobs.run(work, "The migration was not run", dialect)


def require_folder() -> None:
    """Make sure that the revisions are here.

    Raises:
        MigrationError: they are not.
    """
    if not FOLDER.is_dir():
        raise MigrationError(f"there is no folder {FOLDER}/ here; run this where the service's files are")


def config_for(connection: Connection) -> Config:
    """Return what Alembic works with."""
    from alembic.config import Config

    config = Config(attributes={"connection": connection, "metadata": Base.metadata, "render_item": _render_item})
    config.set_main_option("script_location", str(FOLDER))
    for name, value in _FORMAT_REVISIONS.items():
        config.set_section_option("post_write_hooks", name, value)
    return config


def _render_item(kind: str, item: Any, _context: Any) -> str | Literal[False]:
    """Write types of our own as what they are in the database, so that revisions do not depend on this code."""
    if kind == "type" and isinstance(item, UtcDateTime):
        return "sa.DateTime(timezone=True)"
    return False
