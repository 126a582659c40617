"""Migrations with Alembic. `python -m <package> migrate` runs them once per release; replicas never do."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
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

Action = Callable[[Any, "Config", argparse.Namespace], object]

FOLDER = Path("migrations")
_NOT_RUN, _NOT_WRITTEN, _NOT_READ = "The migration was not run", "No revision was written", "Nothing was read"
# A new revision is formatted like the rest of the code; ruff is a development dependency.
_FORMAT_REVISIONS = {
    "hooks": "ruff",
    "ruff.type": "exec",
    "ruff.executable": str(Path(sys.executable).with_name("ruff")),
    "ruff.options": "format --quiet REVISION_SCRIPT_FILENAME",
}


def add_commands(commands: Any, backend: DatabaseBackend[Any]) -> None:
    """Add `migrate` and its actions to the commands of the service."""
    description = "Apply all migrations, or do ACTION instead."
    parser = commands.add_parser("migrate", help="apply all migrations", description=description)
    parser.add_argument("--env-file", type=_file, metavar="FILE", help="read the settings from FILE instead of .env")
    parser.set_defaults(run=lambda program, options: _run(program, options, backend), action=_upgrade, failure=_NOT_RUN)
    actions = parser.add_subparsers(metavar="ACTION")

    def add(name: str, action: Action, failure: str, description: str, *arguments: str) -> None:
        one = actions.add_parser(name, help=description)
        for argument in arguments:
            one.add_argument(argument)
        one.set_defaults(action=action, failure=failure)

    add("downgrade", _downgrade, _NOT_RUN, "go back to a revision; `base` is an empty schema", "revision")
    new = "write a revision with the difference between models and database"
    add("revision", _revision, _NOT_WRITTEN, new, "message")
    add("check", _check, "The schema is not the newest", "fail if models and database differ")
    add("current", _current, _NOT_READ, "print the revision of the database")
    add("heads", _FILES["heads"], _NOT_READ, "print the newest revision, or several if branches are not merged")
    add("history", _FILES["history"], _NOT_READ, "print all revisions")
    add("merge", _FILES["merge"], _NOT_WRITTEN, "write a revision that joins several newest ones", "message")


def _file(name: str) -> Path:
    if not Path(name).is_file():
        raise argparse.ArgumentTypeError(f"{name} is not a file")
    return Path(name)


def _run(program: Program, options: argparse.Namespace, backend: DatabaseBackend[Any]) -> int:
    from alembic import command  # imported late: a serving process does not need Alembic

    values = {"_env_file": options.env_file} if options.env_file else {}
    settings = chassis_settings.view(chassis_settings.load(program.settings, **values), backend.Settings)
    import_module(program.app.partition(":")[0])  # importing the models registers them

    def work() -> None:
        require_folder()
        if options.action in _FILES.values():
            options.action(command, config_for(None), options)
            return
        if options.action is not _upgrade:
            maintenance.require_database(settings, backend)
        timeout_seconds = settings.database_migration_timeout_seconds
        with maintenance.maintenance_connection(settings, backend, timeout_seconds) as connection:
            options.action(command, config_for(connection), options)

    return maintenance.run(work, options.failure, backend)


# -- actions -----------------------------------------------------------------------------------------------------------


def _merge(command: Any, config: Config, options: argparse.Namespace) -> None:
    from alembic.script import ScriptDirectory

    if len(ScriptDirectory.from_config(config).get_heads()) < 2:
        raise MigrationError("the revisions have no branches, so there is nothing to merge")
    command.merge(config, "heads", options.message)


# The actions that read or write only the folder of the migrations.
_FILES: dict[str, Action] = {
    "heads": lambda command, config, _options: command.heads(config),
    "history": lambda command, config, _options: command.history(config),
    "merge": _merge,
}


def _upgrade(command: Any, config: Config, _options: argparse.Namespace) -> None:
    """Apply all migrations. After a rollback the schema is that of a newer release, and there is nothing to do."""
    revisions = _Revisions(config)
    if revisions.newer:
        print(f"Warning: {revisions.newer}; nothing was changed.", file=sys.stderr)
        return
    revisions.require_one_head()
    command.upgrade(config, "head")
    _create_own_tables(config.attributes["connection"])
    _print_revision(config)


def _create_own_tables(connection: Connection) -> None:
    """Create the chassis's tables that no revision creates, because the chassis cannot write your revisions."""
    tables = [table for table in Base.metadata.sorted_tables if table.info.get("created_by_migrate")]
    Base.metadata.create_all(connection, tables)
    connection.commit()


def _downgrade(command: Any, config: Config, options: argparse.Namespace) -> None:
    _Revisions(config).require_known()
    command.downgrade(config, options.revision)
    _print_revision(config)


def _print_revision(config: Config) -> None:
    current = _Revisions(config).current
    print(f"The database has {f'the revision {current}' if current else 'no revision'}.")


def _revision(command: Any, config: Config, options: argparse.Namespace) -> None:
    _Revisions(config).require_newest()
    command.revision(config, options.message, autogenerate=True, process_revision_directives=_adjust)


def _adjust(_context: Any, _revision: Any, directives: Sequence[Any]) -> None:
    """Adjust the migration that Alembic writes, and print warnings about it."""
    from alembic.operations.ops import AddColumnOp, DropTableOp, ModifyTableOps

    changes = directives[0].upgrade_ops
    if changes.is_empty():
        hint = "If you expected a change, check that `main.py` lists your domain"
        print(f"The models and the database do not differ, so the revision is empty. {hint}.", file=sys.stderr)
    dropped = {(table.schema, table.table_name): table for table in changes.ops if isinstance(table, DropTableOp)}
    for table in dropped.values():
        table.if_exists = True  # no migration created the table of a removed feature, so new databases lack it
    altered = [one for one in changes.ops if isinstance(one, ModifyTableOps)]
    # `DROP TABLE` also drops the indexes. A separate `drop_index` would fail if the table does not exist.
    changes.ops = [one for one in changes.ops if one not in altered or (one.schema, one.table_name) not in dropped]
    for added in (change for one in altered for change in one.ops if isinstance(change, AddColumnOp)):
        if not added.column.nullable and added.column.server_default is None:
            name = f"{added.table_name}.{added.column.name}"
            print(f"{name} is not nullable: add a `server_default` if the table may have rows.", file=sys.stderr)


def _check(command: Any, config: Config, _options: argparse.Namespace) -> None:
    from alembic.util.exc import AutogenerateDiffsDetected

    _Revisions(config).require_newest()
    try:
        command.check(config)
    except AutogenerateDiffsDetected as error:
        remedy = f"write a revision with `{maintenance.MIGRATE} revision MESSAGE`"
        raise MigrationError(f"models and migrations differ; {remedy}: {_names(error.diffs)}") from None


def _names(differences: Sequence[Any]) -> str:
    """Return each difference as its kind and names, such as `add_column notes.tag`."""
    # Alembic groups the changes of one column in a list. A change is a tuple: the kind, followed by schema, table and
    # column, or by the changed item itself.
    single = [one for each in differences for one in (each if isinstance(each, list) else [each])]
    named = [(kind, [getattr(part, "name", part) for part in parts[:3]]) for kind, *parts in single]
    return ", ".join(f"{kind} {'.'.join(str(name) for name in names if name)}" for kind, names in named)


def _current(_command: Any, config: Config, _options: argparse.Namespace) -> None:
    revisions = _Revisions(config)
    print(f"{revisions.current or 'none'} (the newest of this release: {revisions.heads or 'none'})")


class _Revisions:
    """The revisions of the database and of this release.

    Attributes:
        current: The revision of the database; several are separated by commas.
        heads: The newest revision of this release, likewise.
        newer: The problem if this release does not know a revision of the database, or "".
    """

    def __init__(self, config: Config) -> None:
        from alembic.migration import MigrationContext
        from alembic.script import ScriptDirectory

        script = ScriptDirectory.from_config(config)
        connection: Connection = config.attributes["connection"]
        current = MigrationContext.configure(connection).get_current_heads()
        connection.rollback()  # Alembic leaves the commit to the caller if a transaction has begun
        unknown = set(current) - {revision.revision for revision in script.walk_revisions()}
        self.current, self.heads = ", ".join(sorted(current)), ", ".join(sorted(script.get_heads()))
        self.newer = f"the database has the revision {', '.join(sorted(unknown))} of a newer release" if unknown else ""

    def require_known(self) -> None:
        if self.newer:
            raise MigrationError(f"{self.newer}; use that release")

    def require_one_head(self) -> None:
        if "," in self.heads:
            remedy = f"join them with `{maintenance.MIGRATE} merge MESSAGE`"
            raise MigrationError(f"there are several newest revisions, {self.heads}; {remedy}")

    def require_newest(self) -> None:
        self.require_known()
        self.require_one_head()
        if self.current != self.heads:
            current = self.current or "no revision"
            raise MigrationError(f"the database has {current}, the newest is {self.heads}; run `{maintenance.MIGRATE}`")


def require_folder() -> None:
    """Raise a `MigrationError` if the current folder has no migrations."""
    if not FOLDER.is_dir():
        raise MigrationError(f"there is no folder {FOLDER}/ here; run this in the root folder of the service")


def config_for(connection: Connection | None) -> Config:
    """Return the configuration for Alembic."""
    from alembic.config import Config

    # By default, Alembic prints to the stdout that existed when it was imported.
    config = Config(
        stdout=sys.stdout, attributes={"connection": connection, "metadata": Base.metadata, "render_item": _render_item}
    )
    config.set_main_option("script_location", str(FOLDER))
    for name, value in _FORMAT_REVISIONS.items():
        config.set_section_option("post_write_hooks", name, value)
    return config


def _render_item(kind: str, item: Any, _context: Any) -> str | Literal[False]:
    """Render the chassis's types as SQLAlchemy's types, so that revisions do not import this code."""
    if kind == "type" and isinstance(item, UtcDateTime):
        return "sa.DateTime(timezone=True)"
    return False
