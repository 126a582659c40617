"""Migrations with Alembic, run once a release by `python -m <package> migrate`, never at the start of a replica."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import create_engine
from sqlalchemy.exc import DBAPIError

from .. import settings as chassis_settings
from .base import Base
from .connection import set_up_connections, url_for
from .dialect import Dialect, MigrationError
from .types import UtcDateTime

if TYPE_CHECKING:
    from ..cli import Program

EX_UNAVAILABLE = 69  # sysexits.h: something that the command depends on is not there
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
    down.set_defaults(action=lambda config, options: command.downgrade(config, options.revision))
    new = actions.add_parser("revision", help="write a revision from the difference between models and database")
    new.add_argument("message")
    new.set_defaults(action=lambda config, options: command.revision(config, options.message, autogenerate=True))
    check = actions.add_parser("check", help="fail when models and database differ")
    check.set_defaults(action=lambda config, options: command.check(config))


def _migrate(program: Program, options: argparse.Namespace, dialect: Dialect) -> int:
    if not FOLDER.is_dir():
        print(f"There is no folder {FOLDER}/ here; run this where the service's files are.", file=sys.stderr)
        return 1
    settings = chassis_settings.load(program.settings)
    import_module(program.app.partition(":")[0])  # the models register themselves when they are imported
    action = getattr(options, "action", lambda config, options: command.upgrade(config, "head"))
    try:
        with _config(settings, dialect) as config:
            action(config, options)
    except (CommandError, MigrationError) as error:
        print(f"The migration was not run: {error}", file=sys.stderr)
        return 1
    except DBAPIError as error:
        if not (error.connection_invalidated or dialect.is_transient(error)):
            raise
        print(f"The database is away: {error.orig}", file=sys.stderr)
        return EX_UNAVAILABLE
    return 0


@contextmanager
def _config(settings: Any, dialect: Dialect) -> Iterator[Config]:
    """Hand Alembic a connection under the lock. Migrations are synchronous, whatever the framework."""
    timeout_seconds = settings.database_migration_timeout_seconds
    # What a request may not wait for, such as a new index on a large table, is what a migration is for.
    settings = settings.model_copy(update={"database_statement_timeout_seconds": timeout_seconds})
    url = url_for(settings, dialect.SYNC_DRIVER)
    dialect.prepare(url)
    engine = create_engine(url, **dialect.engine_options(settings))
    set_up_connections(engine, dialect, settings)
    config = Config(attributes={"metadata": Base.metadata, "render_item": _render_item})
    config.set_main_option("script_location", str(FOLDER))
    for name, value in _FORMAT_REVISIONS.items():
        config.set_section_option("post_write_hooks", name, value)
    try:
        with dialect.migration_lock(engine, timeout_seconds), engine.connect() as connection:
            config.attributes["connection"] = connection
            yield config
    finally:
        engine.dispose()


def _render_item(kind: str, item: Any, _context: Any) -> str | Literal[False]:
    """Write types of our own as what they are in the database, so that revisions do not depend on this code."""
    if kind == "type" and isinstance(item, UtcDateTime):
        return "sa.DateTime(timezone=True)"
    return False
